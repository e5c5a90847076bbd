"""Minimal pairs: likelihoods of whole sentences, the behaviours that the sets show, and broken data."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import tarfile

import pytest
import torch

from parakit.common.errors import UserError
from parakit.evaluation.measures.minimal_pairs import (
    BLIMP_BEHAVIOURS,
    measure_blimp,
    measure_primer_pairs,
)
from parakit.evaluation.measures.rows import find_file, read_rows
from parakit.primer.minimal_pairs import BEHAVIOURS, generate_minimal_pairs

ROWS = [
    {"sentence_good": f"{name} sees the bird.", "sentence_bad": f"{name} see the bird.", "UID": uid,
     "linguistics_term": term, "pairID": str(i)}
    for uid, term in (("regular_1", "subject_verb_agreement"), ("regular_2", "subject_verb_agreement"),
                      ("ellipsis_1", "ellipsis"))
    for i, name in enumerate(("Anna", "Tom", "He", "A dog"))
]  # fmt: skip


def log_likelihood(model, tokenizer, text):
    """The sum over all tokens by one forward pass of torch, after BOS or EOS."""
    start = tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.eos_id
    ids = [start, *tokenizer.encode(text)]
    with torch.no_grad():
        log_probs = model(torch.tensor([ids]))[0].double().log_softmax(-1)
    return sum(float(log_probs[i, token]) for i, token in enumerate(ids[1:]))


def test_a_sentence_is_right_where_it_is_the_likelier_one(given, write_data, check_result, tmp_path):
    write_data("blimp/blimp.jsonl", ROWS)
    result = measure_blimp(given)
    check_result(result, tmp_path)
    for row, item in zip(ROWS, result.items, strict=True):
        good, bad = (
            log_likelihood(given.model, given.tokenizer, row[key])
            for key in ("sentence_good", "sentence_bad")
        )
        assert item.scores["margin"] == pytest.approx(good - bad, abs=1e-4)
        assert item.scores["accuracy"] == (good > bad)
    accuracy = [item.scores["accuracy"] for item in result.items]
    assert result.scores["accuracy"].value == sum(accuracy) / len(accuracy)
    assert result.groups["regular_1"]["accuracy"].value == sum(accuracy[:4]) / 4
    agreement = result.groups["A3 subject-verb agreement"]["accuracy"]
    assert (agreement.value, agreement.n) == (sum(accuracy[:8]) / 8, 8)
    assert result.groups["phenomenon: ellipsis"]["accuracy"].n == 4
    assert result.protocol.prompting == "plain"


def test_fewer_items_are_drawn_evenly_from_the_sets_and_have_the_same_names(given, write_data):
    write_data("blimp/blimp.jsonl", ROWS)
    every = {item.id: item for item in measure_blimp(given).items}
    some = measure_blimp(dataclasses.replace(given, n_items=6))
    assert [item.group for item in some.items] == [
        name for name in ("regular_1", "regular_2", "ellipsis_1") for _ in "ab"
    ]
    for item in some.items:
        assert every[item.id].target == item.target
    other = measure_blimp(dataclasses.replace(given, n_items=6, seed=1))
    assert [i.id for i in other.items] != [i.id for i in some.items]
    assert some.protocol.differences(other.protocol).keys() == {"prompts_digest"}


def test_primer_pairs_show_the_five_behaviours(given, check_result, tmp_path):
    result = measure_primer_pairs(dataclasses.replace(given, n_items=10))
    check_result(result, tmp_path)
    assert [name[:2] for name in result.groups] == ["A1", "A2", "A3", "A4", "A5"]
    assert all(scores["accuracy"].n == 2 for scores in result.groups.values())
    with pytest.raises(UserError, match="0 items"):
        measure_primer_pairs(dataclasses.replace(given, n_items=0))


def test_pairs_of_the_primer_differ_and_do_not_depend_on_their_number():
    pairs = generate_minimal_pairs(30)
    assert len(set(pairs)) == 30 * len(BEHAVIOURS)
    few = generate_minimal_pairs(5)
    assert few == [pair for i, pair in enumerate(pairs) if i % 30 < 5]
    assert generate_minimal_pairs(5, seed=1) != few
    for pair in pairs:
        assert pair.good != pair.bad
        prefix = pair.good.partition("\nAnswer: ")[0]
        assert "Question" not in pair.good or pair.bad.startswith(prefix)
        if pair.behaviour in ("agreement", "long_agreement"):
            different = [a for a, b in zip(pair.good.split(), pair.bad.split(), strict=True) if a != b]
            assert len(different) == 1
    with pytest.raises(UserError, match=r"only \d+ different pairs"):
        generate_minimal_pairs(1000)


def test_missing_and_broken_data_are_refused(given, write_data, tmp_path):
    with pytest.raises(UserError, match=r"has no blimp/blimp.tar.gz"):
        measure_blimp(given)
    with pytest.raises(UserError, match="--data"):
        measure_blimp(dataclasses.replace(given, data=None))
    path = write_data("blimp/blimp.jsonl", ROWS)
    path.write_text(path.read_text() + '{"sentence_good": "a"}\n')
    with pytest.raises(UserError, match=r"line 13: has no 'sentence_bad'"):
        measure_blimp(given)
    path.write_text('["a"]\n')
    with pytest.raises(UserError, match=r"line 1: is list"):
        measure_blimp(given)
    path.write_text("{\n")
    with pytest.raises(UserError, match=r"line 1: is not JSON"):
        measure_blimp(given)
    broken = tmp_path / "rows.jsonl.gz"
    broken.write_bytes(gzip.compress(b'{"a": 1}\n' * 1000)[:40])
    with pytest.raises(UserError, match="cannot be read"):
        read_rows(broken)
    with pytest.raises(UserError, match="has no x"):
        find_file(given, "task", "x", "y")


def test_rows_come_from_all_files_of_an_archive(tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        for name in ("one.jsonl", "two.jsonl", "readme.md"):
            content = (json.dumps({"name": name}) + "\n").encode()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    assert [row["name"] for row in read_rows(tmp_path / "a.tar.gz")] == ["one.jsonl", "two.jsonl"]


@pytest.mark.long
def test_the_published_sets_are_67_and_their_behaviours_exist(public_data, given):
    public_data("blimp")
    rows = read_rows(public_data("blimp") / "blimp.tar.gz")
    assert len({row["UID"] for row in rows}) == 67
    assert {row["linguistics_term"] for row in rows} >= set(BLIMP_BEHAVIOURS)
    assert len(rows) == 67_000 == len({(row["UID"], row["pairID"]) for row in rows})
