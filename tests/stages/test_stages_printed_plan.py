"""What is printed about a run is what the run does (pitfall 43): every line is made from the plan that is resolved."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parakit.model.presets import config_for_size
from parakit.reports.cards.adapter_card import adapter_card
from parakit.reports.cards.model_card import stage_card
from parakit.reports.formatting import run_plan
from parakit.reports.summary_schema import TrainingSummary
from parakit.stages.config import FinetuneConfig, PretrainConfig
from parakit.stages.plans import resolve_plan
from parakit.training.plan import TrainingPlan
from tests.stages.test_stages_plans import examples

SIZING = config_for_size("80k", 300, 32)
# How each setting is found in the line of a run, by the pattern that it is printed in.
PRINTED = {
    "max_steps": (st.integers(1, 9999), r"^(\d+) steps of"),
    "seq_len": (st.integers(2, 32), r"(\d+) tokens"),
    "batch_examples": (st.integers(1, 100), r"steps of (\d+)"),
    "learning_rate": (st.floats(1e-6, 1.0), r"learning rate (\S+?)(?:,|$| )"),
    "embedding_learning_rate": (st.floats(1e-6, 1.0), r"embeddings ([^)]+)\)"),
    "optimizer": (st.sampled_from(["muon", "adamw"]), r"tokens, (\w+),"),
    "schedule": (st.sampled_from(["wsd", "cosine", "inverse_sqrt", "constant"]), r"(?:muon|adamw), (\w+),"),
}
SET = st.fixed_dictionaries({}, optional={name: values for name, (values, _) in PRINTED.items()})


def check_printed(line: str, chosen: dict[str, Any]) -> None:
    for name, value in chosen.items():
        if name == "embedding_learning_rate" and value == chosen.get("learning_rate"):
            continue  # one rate for all is printed once
        found = re.search(PRINTED[name][1], line)
        assert found is not None, (name, line)
        assert found[1] == (f"{value:g}" if isinstance(value, float) else str(value)), (name, line)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(SET)
def test_every_setting_that_is_printed_is_printed_as_set(chosen):
    if chosen.get("optimizer") == "adamw":
        chosen.pop("embedding_learning_rate", None)  # which it does not have
    training = FinetuneConfig(task="translate", **chosen)
    plan = resolve_plan(training, SIZING, examples(200))
    check_printed(plan.describe("examples"), chosen)
    figures = {"plan": plan.model_dump(mode="json")}
    for text in (
        run_plan(TrainingSummary.model_validate(figures)),
        re.search(r"- Training: (.*)\.", stage_card("m", "finetune", figures).replace("\\", ""))[1],
    ):
        check_printed(text, chosen)


def test_the_shape_of_a_model_names_nothing_that_a_setting_changes():
    line = SIZING.describe()
    assert "rate" not in line
    assert "step" not in line
    assert set(PretrainConfig.model_fields) & {"d_model", "n_layers", "d_ff"} == set()


def test_a_summary_of_an_earlier_version_has_no_line_of_its_plan():
    assert run_plan(TrainingSummary.model_validate({"plan": {"n_layers": 2}})) == ""
    assert (
        run_plan(TrainingSummary.model_validate({"plan": {"max_steps": 2, "learning_rate": 1, "x": 1}})) == ""
    )
    assert "Training:" not in adapter_card("m", "base", "lora", {})
    assert "plan" in TrainingSummary.model_fields
    assert {"max_steps", "learning_rate"} <= TrainingPlan.model_fields.keys()


@pytest.mark.parametrize("given", [{"max_tokens": 64 * 32}, {"batch_tokens": 128}])
def test_tokens_are_printed_as_steps_and_rows_of_them(given):
    import numpy as np

    from parakit.tokens.shards import TokenShards

    data = TokenShards(np.zeros(4000, np.uint16), np.array([0, 4000]), vocab_size=300)
    plan = resolve_plan(PretrainConfig(seq_len=16, **given), SIZING, data)
    found = re.search(r"^(\d+) steps of (\d+) x (\d+) tokens", plan.describe())
    steps, rows, length = map(int, found.groups())
    assert length == 16
    if "max_tokens" in given:
        assert steps * rows * length == pytest.approx(64 * 32, rel=0.5)
    else:
        assert rows * length == 128
