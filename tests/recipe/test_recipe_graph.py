"""The build graph by itself, with stages that only write a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from parakit.common import Lineage, UserError, writing_artifact
from parakit.data.config import TextConfig
from parakit.recipe.graph import Build, Stage, fingerprint


class Kitchen:
    """Three stages, one behind the other: `water` and `tea` make `cup`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = {"water": 1, "tea": 1, "cup": 1}
        self.content = {"water": "w", "tea": "t", "cup": "c"}
        self.failing: set[str] = set()
        folder.mkdir(exist_ok=True)

    def stages(self) -> list[Stage]:
        behind = {"water": (), "tea": (), "cup": ("water", "tea")}
        return [Stage(n, {"n": self.settings[n]}, behind[n], self.maker(n)) for n in behind]

    def maker(self, name: str):
        def make(out: Path) -> None:
            with writing_artifact(out, Lineage("corpus"), overwrite=True) as inside:
                (inside / "word").write_text(self.content[name])
                if name in self.failing:
                    raise UserError("spilt")

        return make

    def build(self) -> list[str]:
        """The names of the stages that ran."""
        ran: list[str] = []
        Build(self.folder, self.stages()).run(lambda d: ran.append(d.stage.name) if d.run else None)
        return ran

    def planned(self) -> list[str]:
        return [d.stage.name for d in Build(self.folder, self.stages()).plan() if d.run]


@pytest.fixture
def kitchen(tmp_path) -> Kitchen:
    return Kitchen(tmp_path / "kitchen")


def test_everything_is_made_once(kitchen):
    assert kitchen.planned() == kitchen.build() == ["water", "tea", "cup"]
    assert kitchen.planned() == kitchen.build() == []


def test_new_settings_with_the_old_result_stop_there(kitchen):
    kitchen.build()
    kitchen.settings["tea"] = 2
    assert kitchen.planned() == ["tea", "cup"]  # what tea will be is not known before it is made
    assert kitchen.build() == ["tea"]
    kitchen.settings["tea"], kitchen.content["tea"] = 3, "green"
    assert kitchen.build() == ["tea", "cup"]


def test_a_failure_keeps_what_was_made_and_the_folder_that_was_there(kitchen):
    kitchen.build()
    kitchen.settings |= {"water": 2, "tea": 2}
    kitchen.content |= {"water": "hot", "tea": "green"}
    kitchen.failing = {"tea"}
    with pytest.raises(UserError, match="spilt"):
        kitchen.build()
    assert (kitchen.folder / "water/word").read_text() == "hot"
    assert (kitchen.folder / "tea/word").read_text() == "t"
    kitchen.failing = set()
    assert kitchen.build() == ["tea", "cup"]


def test_a_folder_that_was_swapped_for_another_whole_one_is_noticed(kitchen):
    kitchen.build()
    kitchen.content["water"] = "salt"
    kitchen.maker("water")(kitchen.folder / "water")
    assert kitchen.planned() == ["water", "cup"]
    kitchen.content["water"] = "w"
    assert kitchen.build() == ["water"]


def test_a_fingerprint_lists_what_would_be_read(tmp_path):
    for name in ("b.txt", "a.md", ".hidden.txt", "picture.png", "drafts/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    config = TextConfig(exclude=("drafts/*",))
    names = [Path(row[0]).name for row in fingerprint([str(tmp_path), "absent"], config)]
    assert names == ["a.md", "b.txt"]
    before = fingerprint([str(tmp_path)])
    assert fingerprint([str(tmp_path)]) == before
    (tmp_path / "b.txt").write_text("longer now")
    assert fingerprint([str(tmp_path)]) != before


def test_a_fingerprint_notices_text_on_object_storage_that_changed():
    pytest.importorskip("fsspec").filesystem("memory").pipe("/fingerprint/a.txt", b"one")
    before = fingerprint(["memory://fingerprint"])
    assert [row[0] for row in before] == ["memory://fingerprint/a.txt"]
    assert fingerprint(["memory://fingerprint"]) == before
    pytest.importorskip("fsspec").filesystem("memory").pipe("/fingerprint/a.txt", b"two")
    assert fingerprint(["memory://fingerprint"]) != before
