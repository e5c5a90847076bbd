"""Where a chat model is. Imports no torch: commands look at their flags with it."""


def is_endpoint(location: str) -> bool:
    """Whether a model's location is an endpoint's URL, not a folder."""
    return location.startswith(("http://", "https://"))
