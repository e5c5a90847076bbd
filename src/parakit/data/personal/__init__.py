"""Personal data and secrets in text: where they are, of which kind, and the text without them."""

__all__: list[str] = []
