"""Whether the items of a benchmark were in the training text: the search, the texts that it reads, its figures."""

__all__: list[str] = []
