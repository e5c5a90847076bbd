"""Sets of examples: split for good, nothing trained on that is measured, labels known."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from parakit.common.errors import UserError
from parakit.data.examples import iter_examples, load_examples_report, prepare_examples
from parakit.primer import PrimerConfig, generate_examples
from parakit.primer.sources import primer_examples

SPLITS = ("train", "validation", "test")


def file_of(folder: Path, rows: list[dict], name: str = "rows.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def opinions(n: int) -> list[dict]:
    return [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(n)]


def splits_of(path: Path) -> dict[str, list[dict]]:
    return {split: list(iter_examples(path, split)) for split in SPLITS}


@pytest.mark.parametrize(("n", "more", "share"), [(40, 40, 0.1), (80, 1, 0.3), (45, 20, 0.2)])
def test_every_row_is_in_one_split_and_stays_there_as_the_set_grows(
    tmp_path: Path, n: int, more: int, share: float
) -> None:
    small, large = (
        splits_of(
            prepare_examples(
                [file_of(tmp_path, opinions(size))],
                "classify",
                tmp_path / f"set-{size}",
                validation_fraction=share,
                test_fraction=0.2,
            )
        )
        for size in (n, n + more)
    )
    rows = [row for split in SPLITS for row in small[split]]
    assert len(rows) == n
    assert all(row in rows for row in opinions(n))
    assert all(small.values())
    for split in SPLITS:
        assert [row for row in large[split] if row in rows] == small[split]


def test_duplicates_are_left_out_and_conflicting_answers_counted(tmp_path: Path) -> None:
    rows = [*opinions(60), *opinions(7), {"text": "text 0", "label": "b"}, {"text": "text 1", "label": "a"}]
    prepare_examples([file_of(tmp_path, rows)], "classify", tmp_path / "set")
    report = load_examples_report(tmp_path / "set")
    assert report["duplicates"] == 7
    assert report["conflicting"] == 2
    splits = splits_of(tmp_path / "set")
    assert sum(map(len, splits.values())) == 62
    for text in ("text 0", "text 1"):  # both answers on the same side
        assert sum(any(row["text"] == text for row in rows) for rows in splits.values()) == 1


def test_several_translations_of_a_source_do_not_conflict(tmp_path: Path) -> None:
    rows = [{"source": f"s{i % 30}", "target": f"t{i}"} for i in range(60)]
    prepare_examples([file_of(tmp_path, rows)], "translate", tmp_path / "set", validation_fraction=0.2)
    assert load_examples_report(tmp_path / "set")["conflicting"] == 0
    splits = splits_of(tmp_path / "set")
    train, held = ({row["source"] for row in splits[split]} for split in ("train", "validation"))
    assert held
    assert not train & held


def test_files_named_for_validation_and_test_are_those_splits_row_for_row(tmp_path: Path) -> None:
    rows, held, test = opinions(50), opinions(12)[4:], [*opinions(30)[20:], *opinions(21)[20:]]
    prepare_examples(
        [file_of(tmp_path, rows)],
        "classify",
        tmp_path / "set",
        validation=[file_of(tmp_path, held, "held.jsonl")],
        test=[file_of(tmp_path, test, "test.jsonl")],
    )
    splits = splits_of(tmp_path / "set")
    assert splits["validation"] == held
    assert splits["test"] == test
    assert splits["train"] == [row for row in rows if row not in held and row not in test]
    assert load_examples_report(tmp_path / "set")["also_held_out"] == 18


def test_the_report_has_labels_lengths_and_scores(tmp_path: Path) -> None:
    prepare_examples([file_of(tmp_path, opinions(40))], "classify", tmp_path / "set")
    report = load_examples_report(tmp_path / "set")
    assert report["labels"] == ["a", "b"]
    n = {split: facts["examples"] for split, facts in report["splits"].items()}
    assert sum(n.values()) == 40
    assert sum(report["splits"]["train"]["labels"].values()) == n["train"]
    assert report["splits"]["train"]["lengths"]["text"]["longest"] == 7
    rows = [{"text": f"{i}", "score": i / 4} for i in range(9)]
    prepare_examples([file_of(tmp_path, rows)], "regress", tmp_path / "scores", validation_fraction=0)
    facts = load_examples_report(tmp_path / "scores")["splits"]["train"]["scores"]
    assert (facts["mean"], facts["least"], facts["greatest"]) == (1.0, 0.0, 2.0)
    assert facts["deviation"] == pytest.approx((60 / 9) ** 0.5 / 4)


def test_labels_can_be_given_in_an_order_of_ones_own(tmp_path: Path) -> None:
    source = [file_of(tmp_path, opinions(40))]
    prepare_examples(source, "classify", tmp_path / "set", labels=["b", "a", "never met"])
    assert load_examples_report(tmp_path / "set")["labels"] == ["b", "a", "never met"]
    with pytest.raises(UserError, match=r"rows\.jsonl, row 2: label 'b' is none of the labels given"):
        prepare_examples(source, "classify", tmp_path / "other", labels=["a", "c"])
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("task", ["classify", "tag"])
def test_a_label_that_training_never_meets_is_named(tmp_path: Path, task: str) -> None:
    def turned(row: dict) -> dict:
        return row if task == "classify" else {"words": [row["text"]], "tags": [row["label"]]}

    held = [{"text": "x", "label": "a"}, {"text": "y", "label": "c"}]
    with pytest.raises(UserError, match=r"held\.jsonl, row 2: label 'c' is none of those of the train split"):
        prepare_examples(
            [file_of(tmp_path, [turned(row) for row in opinions(40)])],
            task,
            tmp_path / "set",
            validation=[file_of(tmp_path, [turned(row) for row in held], "held.jsonl")],
        )


def test_a_small_set_takes_a_larger_share_for_validation(tmp_path: Path) -> None:
    prepare_examples([file_of(tmp_path, opinions(6))], "classify", tmp_path / "set", validation_fraction=0.01)
    report = load_examples_report(tmp_path / "set")
    assert report["splits"]["validation"]["examples"] > 0
    assert 0.01 < report["validation_fraction"] <= 0.5


def test_sets_that_cannot_be_trained_on_are_refused(tmp_path: Path) -> None:
    same = [{"text": f"t{i}", "label": "only"} for i in range(20)]
    with pytest.raises(UserError, match="only the label 'only'"):
        prepare_examples([file_of(tmp_path, same)], "classify", tmp_path / "set")
    everything = file_of(tmp_path, opinions(4))
    with pytest.raises(UserError, match="leave train empty"):
        prepare_examples(
            [everything], "classify", tmp_path / "set", validation=[everything], labels=["a", "b"]
        )
    one = [{"source": "a", "target": "b"}]
    with pytest.raises(UserError, match=r"1 different examples leave (train|validation) empty"):
        prepare_examples([file_of(tmp_path, one)], "translate", tmp_path / "set")
    (tmp_path / "none.csv").write_text("text,label\n")
    with pytest.raises(UserError, match="no rows found"):
        prepare_examples([f"{tmp_path}/none.csv"], "classify", tmp_path / "set")
    with pytest.raises(UserError, match="no source and target to swap"):
        prepare_examples([everything], "classify", tmp_path / "set", reverse=True)
    with pytest.raises(UserError, match="no examples of tag"):
        prepare_examples(primer_examples(PrimerConfig(), "tag"), "tag", tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_reverse_swaps_source_and_target(tmp_path: Path) -> None:
    rows = [{"source": f"s{i}", "target": f"t{i}"} for i in range(40)]
    prepare_examples([file_of(tmp_path, rows)], "translate", tmp_path / "set", reverse=True)
    found = [row for split in splits_of(tmp_path / "set").values() for row in split]
    assert sorted(row["source"] for row in found) == sorted(row["target"] for row in rows)
    assert all(row["target"][1:] == row["source"][1:] for row in found)


# --- the primer's examples

PRIMER = PrimerConfig(n_examples=1500, n_test_examples=150)
NEGATIONS = re.compile(r"\b(not|never|far from)\b")
PRAISE = re.compile(
    r"\b(good|great|lovely|wonderful|nice|excellent|pleasant|delightful|liked?|loved|enjoy(ed)?|happy)\b"
)
BLAME = re.compile(r"\b(bad|awful|terrible|boring|horrible|dull|poor|unpleasant|hated|sad)\b")


def test_the_primers_opinions_are_labelled_as_a_reader_would() -> None:
    rows = [*generate_examples(PRIMER, "classify"), *generate_examples(PRIMER, "classify", held_out=True)]
    n_negated = 0
    for row in rows:
        judged = []
        for told in row["text"].removesuffix(".").split(". "):
            praise, blame = PRAISE.search(told), BLAME.search(told)
            if praise or blame:
                n_negated += bool(NEGATIONS.search(told))
                judged.append(bool(praise) != bool(NEGATIONS.search(told)))
        assert judged
        assert set(judged) == {row["label"] == "positive"}, row
    assert n_negated > len(rows) / 3
    n_positive = sum(row["label"] == "positive" for row in rows)
    assert 0.45 < n_positive / len(rows) < 0.55


@pytest.mark.parametrize("task", ["classify", "translate", "embed"])
def test_the_primers_test_rows_are_new(task: str) -> None:
    train = [tuple(row.values()) for row in generate_examples(PRIMER, task)]
    held = [tuple(row.values()) for row in generate_examples(PRIMER, task, held_out=True)]
    assert len(set(train)) == PRIMER.n_examples
    assert len(set(held)) == PRIMER.n_test_examples
    assert not {row[0] for row in train} & {row[0] for row in held}
    if task == "classify":  # nor does an opinion of a test row occur in training among other sentences
        told = {sentence for row in train for sentence in row[0].removesuffix(".").split(". ")}
        for text, _ in held:
            opinions_of = [
                one for one in text.removesuffix(".").split(". ") if PRAISE.search(one) or BLAME.search(one)
            ]
            assert not told & set(opinions_of)


@pytest.mark.parametrize("task", ["classify", "translate", "embed"])
def test_the_primers_examples_are_one_stream_of_the_seed(task: str) -> None:
    rows = list(generate_examples(PRIMER, task))
    shorter = PRIMER.replace(n_examples=100)
    assert list(generate_examples(shorter, task)) == rows[:100]
    assert list(generate_examples(PRIMER.replace(seed=1), task))[:100] != rows[:100]


def test_a_set_of_the_primers_translations_has_a_held_out_test(tmp_path: Path) -> None:
    prepare_examples(primer_examples(PRIMER, "translate"), "translate", tmp_path / "set")
    splits = splits_of(tmp_path / "set")
    assert splits["test"] == list(generate_examples(PRIMER, "translate", held_out=True))
    assert len(splits["train"]) + len(splits["validation"]) == PRIMER.n_examples
    assert len(splits["validation"]) > 40
    words = {word for row in splits["train"] for word in re.findall(r"\w+", row["target"].lower())}
    assert {w for row in splits["test"] for w in re.findall(r"\w+", row["target"].lower())} <= words


def test_multi30k_is_read_from_its_files(public_data, tmp_path: Path) -> None:
    folder = public_data("multi30k")
    pair = {name: f"{folder}/{name}.en.gz:{folder}/{name}.de.gz" for name in ("val", "test_2016_flickr")}
    prepare_examples([pair["val"]], "translate", tmp_path / "set", test=[pair["test_2016_flickr"]])
    with gzip.open(folder / "test_2016_flickr.de.gz", "rt", encoding="utf-8") as file:
        lines = [line.strip() for line in file]
    assert [row["target"] for row in iter_examples(tmp_path / "set", "test")] == lines
    report = load_examples_report(tmp_path / "set")
    n_read = sum(report["splits"][split]["examples"] for split in ("train", "validation"))
    assert n_read + report["duplicates"] + report["also_held_out"] == 1014
