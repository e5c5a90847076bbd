"""The public surface is pinned: a name appears, changes or goes only with a change of exports.txt (`make
exports`).
"""

from __future__ import annotations

import importlib

from exported_names import PINNED
from package import ROOT, SRC
from surface_rules import exports, unused_exports


def test_exported_names_are_those_that_are_pinned() -> None:
    pinned = PINNED.read_text(encoding="utf-8").split()
    found = exports(SRC)
    changed = sorted(set(found) ^ set(pinned))
    assert changed == [], "new or gone names; if that is wanted: make exports"


def test_every_exported_name_can_be_imported() -> None:
    for name in exports(SRC):
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


def test_every_exported_name_is_imported_by_somebody() -> None:
    api = {f"parakit.{name}" for name in vars(importlib.import_module("parakit")).get("__all__", [])}
    unused = unused_exports(SRC, [ROOT / "tests", ROOT / "benchmarks"])
    assert [line for line in unused if line.partition(":")[0] not in api] == []
