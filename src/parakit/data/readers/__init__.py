"""From files and folders to text and rows: which files are read, how, and what is left out."""

__all__: list[str] = []
