"""Rows of data are found and searched, what was left out is listed by reason, and masks show what the loss counts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from parakit.common.errors import UserError
from parakit.data.conversations.sets import iter_conversations
from parakit.serving.studio.corpora.loss_masks import open_tokenizer, runs_of_row, tokenizer_folders
from parakit.serving.studio.corpora.rows import (
    DataSet,
    cleaning_samples,
    find_rows,
    find_sets,
    set_report,
    skip_reasons,
)
from parakit.tokens.chat.template import compile_chat


@pytest.fixture(scope="module")
def sets(primer_build) -> dict[str, DataSet]:
    return {one.kind: one for one in find_sets(primer_build[0].parent)}


def test_the_sets_of_a_build_are_found(sets: dict[str, DataSet]) -> None:
    assert sets.keys() == {"corpus", "conversations"}
    assert sets["corpus"].title == "primer / corpus"
    assert sets["corpus"].splits() == ["train", "validation", "test"]
    assert skip_reasons(set_report(sets["corpus"])) == []


def test_rows_are_searched_and_paged(tmp_path: Path) -> None:
    rows = [{"text": f"Number {i}, Grüße"} for i in range(25)]
    (tmp_path / "train.jsonl").write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows) + "{\n"
    )
    one = DataSet(tmp_path, "corpus", "x")
    found = find_rows(one, "train", "GRÜSSE".replace("SS", "ß"), start=20)
    assert [number for number, _ in found.rows] == [20, 21, 22, 23, 24]
    assert (found.n_found, found.is_complete, found.n_damaged) == (25, True, 0)
    assert find_rows(one, "train", start=25).rows == ((25, {"damaged": True}),)
    assert find_rows(one, "train", 'with "quotes"').n_found == 0
    (tmp_path / "train.jsonl").unlink()
    with pytest.raises(UserError, match="is gone"):
        find_rows(one, "train")


def test_masked_runs_are_those_of_training(sets: dict[str, DataSet], primer_build) -> None:
    build = primer_build[0] / "primer"
    folders = tokenizer_folders(sets["conversations"].path, primer_build[0])
    assert build / "tokenizer" in folders
    tokenizer = open_tokenizer(build / "tokenizer")
    conversation = next(iter(iter_conversations(sets["conversations"].path, "train")))
    row = find_rows(sets["conversations"], "train").rows[0][1]
    runs = runs_of_row(tokenizer, row)
    chat = compile_chat(tokenizer, conversation)
    assert sum(run.n_tokens for run in runs) == len(chat.token_ids)
    assert sum(run.n_tokens for run in runs if run.is_counted) == sum(chat.loss_mask)
    answer = row["messages"][-1]["content"]
    assert answer.strip() in "".join(run.text for run in runs if run.is_counted)
    assert "".join(run.text for run in runs if run.is_control).startswith(runs[0].text)


def test_a_folder_without_a_template_cannot_mask(published_decoder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tokenizer"
    shutil.copytree(published_decoder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    for name in ("chat_template.jinja", "chat_template.json"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(UserError, match="no chat template"):
        open_tokenizer(folder)
    with pytest.raises(UserError):
        runs_of_row(open_tokenizer(published_decoder), {"messages": [{"role": "user"}]})


def test_what_was_left_out_is_listed_by_reason() -> None:
    report = {
        "skipped": {"binary": 3},
        "skipped_files": [{"source": "a.bin", "reason": "binary: zeros"}],
        "skipped_rows": {"no answer": 5},
        "skipped_locations": {"no answer": ["c.jsonl, row 2"]},
        "duplicates": 2,
        "cleaning": [
            {
                "step": "repair_text",
                "n_left_out": 1,
                "samples": [{"source": "s", "before": "b", "after": None}],
            }
        ],
    }
    found = skip_reasons(report)
    assert [(one.reason, one.n) for one in found][:2] == [("no answer", 5), ("binary", 3)]
    assert found[0].examples == ("c.jsonl, row 2",)
    assert found[1].examples == ("a.bin",)
    assert len(found) == 4
    assert cleaning_samples(report)[0].after is None
