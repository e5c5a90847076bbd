"""Model cards: of a model, of an adapter, and the scores in them."""

__all__: list[str] = []
