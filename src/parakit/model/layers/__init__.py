"""The layers of a stack: attention, feed-forward, experts, norms, positions and masks; `blocks.py` combines them."""

__all__: list[str] = []
