"""The summary's keys are a contract with whoever reads `summary.json` by machine."""

from __future__ import annotations

import json
import re

import pytest
from pydantic import ValidationError
from report_sample import full_summary, parsed

from parakit.common import CorruptArtifact, open_artifact
from parakit.recipe.config import RecipeConfig
from parakit.reports.summary import read_summary
from parakit.reports.summary_schema import BuildSummary, TrainingSummary, json_schema


def test_stages_have_seconds_parameters_tokens_and_bits_per_byte(primer_build):
    stages = primer_build[1]["stages"]
    for stage, figures in stages.items():
        assert figures["seconds"] >= 0, stage
    for stage in ("pretrain", "finetune"):
        figures = stages[stage]
        assert isinstance(figures["parameters"], int)
        assert isinstance(figures["tokens"], int)
        assert 0 < figures["bits_per_byte"] < 20
    assert stages["shards"]["tokens"] == sum(
        split["n_tokens"] for split in stages["shards"]["splits"].values()
    )
    assert primer_build[1]["seconds"] == sum(figures["seconds"] for figures in stages.values())


def test_suites_have_accuracy_interval_and_count_for_every_model(primer_build):
    summary = primer_build[1]
    assert len(summary["suites"]) == 8
    for results in summary["suites"].values():
        assert list(results) == ["base", "tuned"]
        for result in results.values():
            assert 0 <= result["low"] <= result["accuracy"] <= result["high"] <= 1
            assert result["n"] == 8
    for model in ("base", "tuned"):
        accuracies = [results[model]["accuracy"] for results in summary["suites"].values()]
        assert summary["suite_mean"][model] == sum(accuracies) / 8


def test_the_summary_is_json_and_its_recipe_can_be_read_back(primer_build, primer_recipe):
    summary = json.loads(json.dumps(primer_build[1], allow_nan=False))
    assert RecipeConfig.parse(summary["recipe"]) == primer_recipe()
    kept = json.loads((primer_build[0] / "primer/recipe.json").read_text())
    assert RecipeConfig.parse(kept) == primer_recipe()


def test_the_lineage_leads_from_the_models_back_to_the_text(primer_build):
    builds, summary = primer_build
    rows = {row["stage"]: row for row in summary["lineage"]}
    digests = {stage: row["digest"] for stage, row in rows.items()}
    assert rows["corpus"]["parents"] == []
    assert set(rows["shards"]["parents"]) == {digests["corpus"], digests["tokenizer"]}
    assert set(rows["pretrain"]["parents"]) == {digests["shards"], digests["tokenizer"]}
    assert set(rows["finetune"]["parents"]) == {digests["pretrain"], digests["conversation_shards"]}
    assert set(rows["evaluate"]["parents"]) == {digests["pretrain"], digests["finetune"]}
    for stage, digest in digests.items():
        assert open_artifact(builds / "primer" / stage).digest == digest == summary_digest(summary, stage)


def summary_digest(summary: dict, stage: str) -> str:
    return next(row["digest"] for row in summary["lineage"] if row["stage"] == stage)


def test_samples_answer_the_questions_of_the_recipe(primer_build):
    stages = primer_build[1]["stages"]
    assert [sample["prompt"] for sample in stages["pretrain"]["samples"]] == ["One morning"]
    assert [sample["prompt"] for sample in stages["finetune"]["samples"]] == ["What is your name?"]


def test_a_build_sets_every_key_of_the_schema(primer_build):
    summary = parsed(primer_build[1])
    assert set(BuildSummary.model_fields) - summary.model_fields_set == {"commit"}
    assert summary.to_dict() == primer_build[1]
    for name in ("pretrain", "finetune"):
        figures = summary.training(name)
        measured = {key for row in figures.validations for key in row}
        assert set(figures.model_extra) <= measured, "what the schema does not name is a metric"


@pytest.mark.parametrize(
    "where", [(), ("task",), ("stages", "corpus"), ("stages", "pretrain"), ("suites", "facts", "base")]
)
def test_an_unknown_key_is_an_error(where):
    summary = full_summary() | {"task": {"task": "classify", "split": "test", "n": 1}}
    part = summary
    for key in where:
        part = part[key]
    part["surprise"] = "text"
    with pytest.raises(ValidationError, match="surprise"):
        parsed(summary)


def test_a_missing_key_is_an_error_where_the_report_needs_it():
    summary = full_summary()
    del summary["suites"]["facts"]["tuned"]["accuracy"]
    with pytest.raises(ValidationError, match=r"suites\.facts\.tuned\.accuracy"):
        parsed(summary)


def test_the_json_schema_names_every_part():
    schema = json.loads(json.dumps(json_schema()))
    assert set(schema["properties"]) == set(BuildSummary.model_fields)
    assert not schema["additionalProperties"]
    references = set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema)))
    assert references <= set(schema["$defs"])
    assert set(schema["$defs"]["TrainingSummary"]["properties"]) == set(TrainingSummary.model_fields)


def test_a_written_summary_is_read_back_and_a_foreign_one_is_refused(primer_build, tmp_path):
    assert read_summary(primer_build[0] / "primer/summary.json").to_dict() == primer_build[1]
    (tmp_path / "summary.json").write_text('{"name": "x", "surprise": 1}')
    with pytest.raises(CorruptArtifact, match="surprise"):
        read_summary(tmp_path / "summary.json")
