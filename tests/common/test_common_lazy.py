"""Lazy re-exports import a module when its name is touched, and not before."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from parakit.common.lazy import lazy_exports


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    room = tmp_path / "lazyroom"
    room.mkdir()
    (room / "__init__.py").write_text(
        "from parakit.common.lazy import lazy_exports\n"
        "__getattr__, __dir__ = lazy_exports(__name__, {'Thing': 'heavy', 'gone': 'heavy'})\n"
        "__all__ = ['Thing']\n"
    )
    (room / "heavy.py").write_text("class Thing: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "lazyroom"
    for name in ("lazyroom", "lazyroom.heavy"):
        sys.modules.pop(name, None)


def test_a_name_is_imported_when_it_is_touched(package: str) -> None:
    room = importlib.import_module(package)
    assert f"{package}.heavy" not in sys.modules
    assert dir(room) == ["Thing", "gone"]
    assert f"{package}.heavy" not in sys.modules
    assert room.Thing.__name__ == "Thing"
    assert f"{package}.heavy" in sys.modules
    assert room.Thing is room.Thing


def test_star_import_and_from_import_work(package: str) -> None:
    names: dict[str, object] = {}
    exec(f"from {package} import *\nfrom {package} import Thing as Other", names)
    assert names["Thing"] is names["Other"]


def test_an_unknown_name_is_an_attribute_error(package: str) -> None:
    room = importlib.import_module(package)
    for name in ("nothing", "gone"):
        with pytest.raises(AttributeError, match=name):
            getattr(room, name)


def test_an_unknown_package_shows_its_name() -> None:
    getattr_, _ = lazy_exports("some.room", {})
    with pytest.raises(AttributeError, match=r"some\.room"):
        getattr_("x")
