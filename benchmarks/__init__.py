"""Speed, memory and quality, measured by programs that anyone can run: `make bench NAME=...`. See harness.py
for the rules.
"""

__all__: list[str] = []
