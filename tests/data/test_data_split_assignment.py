"""No text is in two splits, nor are two versions of one; held-out splits have the size that was asked for."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parakit.common.errors import UserError
from parakit.data.config import TextConfig
from parakit.data.corpus import iter_corpus, prepare_corpus
from parakit.data.duplicates.text_groups import Sketch, SketchFile, near_duplicate_groups, resemblance
from parakit.data.mixing import source_caps
from parakit.data.split_assignment import MIN_TEXTS, TextUnit, assign_splits, region_split
from parakit.data.splits import SPLITS, split_of


def units_of(sizes: list[int], groups: list[int] | None = None) -> list[TextUnit]:
    return [
        TextUnit(
            hashlib.sha256(str(i).encode()).hexdigest(),
            f"{i}.txt",
            False,
            size,
            1,
            groups[i] if groups else i,
        )
        for i, size in enumerate(sizes)
    ]


@given(
    st.lists(st.integers(1, 5_000), min_size=1, max_size=80),
    st.integers(1, 20),
    st.floats(0.01, 0.3),
    st.floats(0.01, 0.3),
)
def test_held_out_splits_are_not_too_large_and_groups_stay_together(
    sizes: list[int], n_groups: int, validation: float, test: float
) -> None:
    first: dict[int, int] = {}
    groups = [first.setdefault(i % n_groups if i % 3 == 0 else 100 + i, i) for i in range(len(sizes))]
    units = units_of(sizes, groups)
    assignment = assign_splits(units, validation, test)
    if assignment is None:
        return
    assert all(assignment.splits[i] == assignment.splits[group] for i, group in enumerate(groups))
    for name, fraction in (("validation", validation), ("test", test)):
        held = sum(
            unit.n_bytes for unit, split in zip(units, assignment.splits, strict=True) if split == name
        )
        assert 0 < held <= 2 * fraction * sum(sizes) * (1 + 1e-9)
    assert "train" in assignment.splits


def test_many_texts_go_by_their_digests_alone() -> None:
    units = units_of([100] * 2_000)
    assignment = assign_splits(units, 0.05, 0.05)
    assert assignment is not None
    assert assignment.splits == [split_of(unit.digest, 0.05, 0.05) for unit in units]


def test_a_text_that_drowns_the_others_is_trained_on_and_five_are_held_out() -> None:
    assignment = assign_splits(units_of([3_000_000, *[4_000] * 39]), 0.05, 0.05)
    assert assignment is not None
    assert assignment.splits[0] == "train"
    assert [assignment.splits.count(split) for split in ("validation", "test")] == [MIN_TEXTS] * 2


@given(st.integers(5, 400), st.floats(0, 0.4), st.floats(0, 0.4))
def test_regions_are_contiguous_in_order_and_apart(n: int, validation: float, test: float) -> None:
    splits = [region_split(piece, n, validation, test) for piece in range(n)]
    order = [split for i, split in enumerate(splits) if i == 0 or splits[i - 1] != split]
    expected: list[str | None] = ["train"]
    expected += [None, "validation"] if validation else []
    expected += [None, "test"] if test else []
    assert order == expected[-len(order) :]
    assert splits.count(None) <= bool(validation) + bool(test)


# ---- near-duplicates


def words(seed: int, n: int = 400) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices("abcdefghijklmnoprstuw", k=draw.randint(2, 9))) for _ in range(n)]


def changed(text: list[str], share: float, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [word if draw.random() > share else "other" + word for word in text]


def sketch_of(text: str) -> Sketch:
    sketch = Sketch()
    sketch.add(text)
    return sketch


def groups_of(texts: list[str]) -> tuple[list[int], int]:
    sketches = SketchFile()
    for text in texts:
        sketches.begin()
        sketches.add(text)
    groups, n_templated = near_duplicate_groups(*sketches.read())
    return groups.tolist(), n_templated


def exact_resemblance(one: str, other: str) -> float:
    first, second = (
        {raw[i : i + 12] for i in range(len(raw) - 11)} for raw in (one.encode(), other.encode())
    )
    return len(first & second) / len(first | second)


@given(st.integers(0, 1_000), st.floats(0, 0.4))
@settings(max_examples=30)
def test_the_sketch_estimates_the_resemblance(seed: int, share: float) -> None:
    one = words(seed)
    texts = " ".join(one), " ".join(changed(one, share, seed + 1))
    assert resemblance(*(sketch_of(text).least for text in texts)) == pytest.approx(
        exact_resemblance(*texts), abs=0.26
    )  # 4 sigma


def test_a_sketch_does_not_depend_on_the_pieces_of_a_long_text() -> None:
    text = " ".join(words(1, 20_000))
    pieces = Sketch()
    for start in range(0, len(text), 5_000):
        pieces.add(text[start : start + 5_000])
    assert resemblance(pieces.least, sketch_of(text).least) > 0.95


def test_versions_are_found_and_others_are_not() -> None:
    texts = [words(seed) for seed in range(40)]
    versions = [changed(texts[seed], 0.05, seed) for seed in range(10)]
    groups, n_templated = groups_of([" ".join(text) for text in [*texts, *versions]])
    assert groups == [*range(40), *range(10)]
    assert n_templated == 0


def test_no_texts_are_in_no_groups() -> None:
    assert groups_of([]) == ([], 0)


def test_texts_of_one_template_are_not_one_document() -> None:
    template = " ".join(words(0))
    groups, n_templated = groups_of(
        [f"{template} invoice {k} {' '.join(words(k + 1, 20))}" for k in range(60)]
    )
    assert groups == list(range(60))
    assert n_templated == 60


@pytest.mark.parametrize("n_files", [2, 60])
def test_two_versions_of_a_contract_are_never_apart(tmp_path: Path, n_files: int) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for k in range(n_files):
        (folder / f"{k}.txt").write_text(" ".join(words(k, 3_000)))
    for seed in range(20 if n_files > 2 else 1):
        version = changed(words(seed, 3_000), 0.03, seed)
        (folder / f"version {seed}.md").write_text("\r\n".join(version))
    prepare_corpus(TextConfig(paths=(str(folder),), validation_fraction=0.2), tmp_path / "corpus")
    split_of_file = {
        document.source: split for split in SPLITS for document in iter_corpus(tmp_path / "corpus", split)
    }
    if n_files > 2:
        for seed in range(20):
            assert split_of_file[f"in/{seed}.txt"] == split_of_file[f"in/version {seed}.md"]
        assert set(split_of_file.values()) == set(SPLITS)
    else:  # too few for whole files: of the two versions one is used
        assert len({name.split()[-1][0] for name in split_of_file}) == 2


def test_a_version_of_a_validation_file_is_not_trained_on(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for k in range(30):
        (tmp_path / "in" / f"{k}.txt").write_text(" ".join(words(k)))
    (tmp_path / "held.txt").write_text(" ".join(changed(words(7), 0.04, 7)))
    config = TextConfig(paths=(str(tmp_path / "in"),), validation_paths=(str(tmp_path / "held.txt"),))
    prepare_corpus(config, tmp_path / "corpus")
    sources = {split: {d.source for d in iter_corpus(tmp_path / "corpus", split)} for split in SPLITS}
    assert sources["validation"] == {"held.txt"}
    assert sources["train"] | sources["test"] == {f"in/{k}.txt" for k in range(30) if k != 7}


# ---- a cap on each source


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=30), st.floats(0.05, 0.9))
def test_no_source_is_above_its_share_after_the_caps(sizes: list[int], share: float) -> None:
    named = {str(i): size for i, size in enumerate(sizes)}
    if share * len(sizes) < 1:
        with pytest.raises(UserError, match="max_source_share"):
            source_caps(named, share)
        return
    caps = source_caps(named, share)
    kept = {name: size * caps.get(name, 1.0) for name, size in named.items()}
    assert max(kept.values()) <= share * sum(kept.values()) * (1 + 1e-9)
    assert all(0 < cap < 1 for cap in caps.values())
    uncapped = [size for name, size in kept.items() if name not in caps]
    assert all(kept[name] >= max(uncapped, default=0) * (1 - 1e-9) for name in caps)


def test_a_drowning_log_is_cut_to_its_share(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for k in range(20):
        (tmp_path / "in" / f"{k}.txt").write_text(" ".join(words(k)))
    (tmp_path / "in" / "big.log").write_text("\n".join(" ".join(words(100 + k, 100)) for k in range(600)))
    config = TextConfig(paths=(str(tmp_path / "in"),), max_source_share=0.3, max_document_chars=1_000)
    prepare_corpus(config, tmp_path / "corpus")
    sizes = [(d.n_bytes, d.source == "in/big.log") for d in iter_corpus(tmp_path / "corpus", "train")]
    share = sum(n for n, big in sizes if big) / sum(n for n, _ in sizes)
    assert 0.2 < share < 0.4


def test_of_a_few_short_texts_one_is_held_out() -> None:
    units = units_of([500] * 4)
    assert assign_splits(units, 0.05, 0.05) is None
    assignment = assign_splits(units, 0.05, 0.05, least_room=1 / 3)
    assert assignment is not None
    assert sorted(map(str, assignment.splits)) == ["test", "train", "train", "validation"]
