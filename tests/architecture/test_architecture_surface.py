"""The public surface is pinned: a name appears, changes or goes only with a change of exports.txt (`make
exports`).
"""

from __future__ import annotations

import importlib

from exported_names import PINNED
from house import HOUSE
from surface_rules import exports


def test_exported_names_are_those_that_are_pinned() -> None:
    pinned = PINNED.read_text(encoding="utf-8").split()
    found = exports(HOUSE)
    changed = sorted(set(found) ^ set(pinned))
    assert changed == [], "new or gone names; if that is wanted: make exports"


def test_every_exported_name_can_be_imported() -> None:
    for name in exports(HOUSE):
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name
