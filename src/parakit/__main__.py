"""`python -m parakit`: the command where `parakit` itself is not on the path."""

from __future__ import annotations

import sys

from parakit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
