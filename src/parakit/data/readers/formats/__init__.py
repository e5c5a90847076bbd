"""Readers of document formats, one module each; `registry.py` has the table and says how to add one."""

__all__: list[str] = []
