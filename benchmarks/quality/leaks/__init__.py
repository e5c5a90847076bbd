"""Items of suites that are planted in other text: whether they are found."""

__all__: list[str] = []
