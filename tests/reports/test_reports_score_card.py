"""A card with scores is what the hub's own parser reads, keeps what others wrote, and has every figure."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from parakit.common.artifacts import Lineage, writing_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.evaluation.contamination.figures import find_contamination
from parakit.evaluation.contamination.texts import named_text
from parakit.evaluation.results import Item, Protocol, summarize_items
from parakit.reports.cards.score_card import add_scores, card_with_evaluations, score_rows, split_front_matter

PUBLISHED = """---
license: apache-2.0
language:
- no
model-index:
- name: tiny
  results:
  - task: {type: text-generation}
    dataset: {type: other, name: Other | set}
    metrics: [{type: accuracy, value: 0.5}]
---

# Tiny

A published model.
"""


@pytest.fixture
def results(tmp_path: Path) -> JsonObject:
    (tmp_path / "web.txt").write_text(
        "it was told that a train leaves the old town at nine and the new one at ten"
    )
    items = [
        Item("a", "A train leaves the old town at nine and the new one at ten. Which is first?", "old", "old", {"acc": 1.0}),
        Item("b", "Some men on a boat see a light far away in the night and row to it. Why?", "it", "no", {"acc": 0.0}),
    ]  # fmt: skip
    protocol = Protocol(
        "exam", "2.0", "lm-eval 0.4", "dd", "pp", n_shots=5, prompting="chat", settings={"seed": 1}
    )
    result = summarize_items(protocol, items, "acc")
    result = find_contamination({"exam": result}, named_text(tmp_path / "web.txt"))["exam"]
    suite = {"accuracy": 0.75, "low": 0.6, "high": 0.9, "n": 8, "prompting": "plain", "contamination": None}
    loss = {
        "bits_per_byte": 1.25,
        "n_bytes": 100,
        "loss_nats_per_token": 2.5,
        "n_tokens": 40,
        "low": 2.4,
        "high": 2.6,
    }
    return {
        "benchmarks": {"exam": dataclasses.replace(result, groups={}).without_items()},
        "suites": {"facts": suite},
        "loss": {"text": loss},
        "examples": None,
    }


def test_the_hub_reads_every_score_with_interval_protocol_and_contamination(results: JsonObject) -> None:
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard(add_scores(None, "tiny", score_rows(results)))
    found = {(one.dataset_name, one.metric_type): one for one in card.data.eval_results}
    assert {key: one.metric_value for key, one in found.items()} == {
        ("exam", "acc"): 0.5,
        ("primer/facts", "accuracy"): 0.75,
        ("text", "bits_per_byte"): 1.25,
        ("text", "nats_per_token"): 2.5,
    }
    exam = found["exam", "acc"]
    assert exam.metric_args["n"] == 2
    assert exam.metric_args["contamination"] == "50.0 % (1 of 2 items)"
    assert exam.metric_args["without_touched_items"]["value"] == 0.0
    expected = {
        "program": "lm-eval 0.4",
        "version": "2.0",
        "n_shots": 5,
        "prompting": "chat",
        "prompts_digest": "pp",
    }
    assert expected.items() <= exam.dataset_args.items()
    assert card.data.model_name == "tiny"


def test_a_published_card_keeps_its_metadata_text_and_results_and_scores_are_written_once(
    results: JsonObject,
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    rows = score_rows(results)
    once = add_scores(PUBLISHED, "m", rows)
    assert add_scores(once, "m", rows) == once
    card = hub.ModelCard(once)
    assert (card.data.license, card.data.language, card.data.model_name) == ("apache-2.0", ["no"], "tiny")
    assert [one.dataset_name for one in card.data.eval_results][:2] == ["Other | set", "exam"]
    assert "A published model." in card.text
    assert card.text.count("## Scores") == 1


def test_the_section_is_for_people(results: JsonObject, tmp_path: Path) -> None:
    text = add_scores(None, "tiny", score_rows(results))
    (row,) = [line for line in text.splitlines() if line.startswith("| exam")]
    assert [cell.strip() for cell in row.split("|")[1:4]] == ["exam", "acc", "50.0 %"]
    assert "50.0 % (1 of 2 items)" in row
    assert "5 shots, prompting: chat, prompts digest pp, seed = 1" in text
    assert "Searched: files web.txt" in text
    assert str(tmp_path) not in text
    assert "| primer/facts | accuracy | 75.0 % | 60.0 % to 90.0 % | 8 | not searched |" in text.replace(
        "\\_", "_"
    )


def test_metadata_that_is_no_yaml_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    metadata, body = split_front_matter("---\na: [1\n---\n# Title\n")
    assert (metadata, body) == ({}, "# Title\n")
    assert "no YAML" in capsys.readouterr().err
    assert split_front_matter("# Title\n---\n") == ({}, "# Title\n---\n")


def test_scores_of_evaluations_of_this_model_alone_go_into_its_card(
    results: JsonObject, tmp_path: Path
) -> None:
    def artifact(name: str, kind: str, parents: list[Path], file: str, content: str) -> Path:
        with writing_artifact(tmp_path / name, Lineage(kind, {"name": name}, list(parents))) as folder:
            (folder / file).write_text(content)
        return tmp_path / name

    model = artifact("m", "model", [], "README.md", PUBLISHED)
    other = artifact("other", "model", [], "README.md", "# Other\n")
    content = json.dumps(results | {"model": {"path": str(model)}})
    first = artifact("first", "evaluation", [model], "results.json", content)
    card = card_with_evaluations(model, [first, first])
    assert card.count("| exam | acc |") == 1
    assert "A published model." in card
    with pytest.raises(UserError, match="another model"):
        card_with_evaluations(other, [first])
    (tmp_path / "published").mkdir()
    (tmp_path / "published/config.json").write_text("{}")
    with pytest.raises(UserError, match="another model"):
        card_with_evaluations(tmp_path / "published", [first])
    content = json.dumps(results | {"model": {"path": str(tmp_path / "published")}})
    assert "# published" in card_with_evaluations(
        tmp_path / "published", [artifact("second", "evaluation", [], "results.json", content)]
    )
