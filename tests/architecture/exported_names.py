"""Write tests/architecture/exports.txt anew: `make exports`, after a change of the public surface that is
wanted.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from package import SRC
from surface_rules import exports

PINNED = Path(__file__).with_name("exports.txt")

if __name__ == "__main__":
    PINNED.write_text("\n".join(exports(SRC)) + "\n", encoding="utf-8")
