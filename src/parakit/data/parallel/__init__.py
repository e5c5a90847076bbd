"""Reading and cleaning a corpus in parts, by several processes or machines, with the same bytes as by one."""

__all__: list[str] = []
