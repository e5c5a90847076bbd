"""Text from the network, fetched only where the user names it and allows it: lists of addresses, and hub data sets."""

__all__: list[str] = []
