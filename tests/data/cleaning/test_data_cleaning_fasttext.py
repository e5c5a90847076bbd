"""Languages by a fastText model of the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from parakit.common.errors import UserError
from parakit.data.cleaning.config import parse_step
from parakit.data.cleaning.steps import Removed
from tests.data.cleaning.fasttext_model import write_model

pytest.importorskip("fasttext")
WORDS = {
    "en": "the bridge over river was opened in spring and ferries stopped",
    "de": "die Brücke über den Fluss wurde im Frühling eröffnet und Fähren hielten",
    "fr": "le pont sur la rivière fut ouvert au printemps et les bacs ont cessé",
}
TEXTS = {code: " ".join([words] * 3) for code, words in WORDS.items()}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_model(tmp_path / "languages.bin", WORDS)
    return tmp_path / "languages.bin"


def test_documents_of_the_named_languages_stay(model: Path, tmp_path: Path) -> None:
    step = parse_step(f"language:keep=en,fr:model={model}").build(tmp_path)
    assert [step(text) for text in TEXTS.values()] == [TEXTS["en"], Removed("language de"), TEXTS["fr"]]  # type: ignore[operator]
    few = f"{TEXTS['de']} the bridge over river"
    assert step(few) == Removed("language de")  # type: ignore[operator]


def test_languages_that_are_not_among_the_named_ones_are_passed_over(model: Path, tmp_path: Path) -> None:
    mixed = f"{TEXTS['de']} {WORDS['en']} {WORDS['en']}"
    step = parse_step(f"language:keep=en:among=en,fr:model={model}:min_probability=0.001").build(tmp_path)
    assert step(mixed) == mixed  # type: ignore[operator]
    short = parse_step(f"language:keep=en:model={model}:unsure=leave_out").build(tmp_path)
    assert short("die Brücke") == Removed("language unsure")  # type: ignore[operator]


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"no model at all, whatever its name says")
    for name, message in (("a.bin", "is no fastText model"), ("gone.bin", "no such file")):
        with pytest.raises(UserError, match=message):
            parse_step(f"language:keep=en:model={tmp_path / name}").build(tmp_path)
