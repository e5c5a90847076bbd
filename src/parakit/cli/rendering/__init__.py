"""What the commands share: parsing of arguments, descriptions of folders, tables, predictions as text."""

__all__: list[str] = []
