"""The card of a model says that model's own figures, and is safe to render."""

import pytest
from report_sample import SUITES, card_of, full_summary, poisoned

from parakit.common import UserError
from parakit.reports.cards.score_card import build_card
from parakit.reports.summary_schema import BuildSummary


def test_the_card_of_each_model_says_its_own_figures():
    base, tuned = card_of(full_summary(), "pretrain"), card_of(full_summary(), "finetune")
    for card in (base, tuned):
        assert card.startswith("---\n")
        assert "4,982,016" in card
        assert "Intel Xeon" in card
    assert "Held-out suites, mean: **25.5 %**" in base
    assert "Held-out suites, mean: **88.9 %**" in tuned
    assert "predicted 3 min 48 s" in base
    assert "predicted 1 min 31 s" in tuned


def test_the_card_of_a_build_has_the_scores_of_its_last_model_as_the_hub_reads_them():
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard(build_card(BuildSummary.model_validate(full_summary())))
    found = {one.dataset_name: one for one in card.data.eval_results}
    assert set(found) == {"arc_easy", *(f"primer/{name}" for name in SUITES)}
    assert found["arc_easy"].metric_value == 0.465
    assert found["arc_easy"].metric_args["contamination"] == "1.5 % (3 of 200 items)"
    assert found["primer/facts"].metric_value == 0.936
    assert found["primer/facts"].metric_args["n"] == 250
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "text-generation")
    assert "accuracy (guessing: 2.0 %) | 93.6 % |" in card.text


def test_a_card_is_no_place_for_markup_or_broken_tables():
    summary = poisoned(full_summary(), "<script>|x")
    summary["suites"] = {"a|b<img>": {"tuned": {"accuracy": 0.5, "low": 0.4, "high": 0.6, "n": 10}}}
    card = build_card(BuildSummary.model_validate(summary)).split("---", 2)[2]
    assert "<script>" not in card.replace("`", "").split("```")[0] or "&lt;script" in card
    assert "<img" not in card
    assert r"a\|b" in card


def test_a_card_for_a_stage_that_did_not_run_is_refused():
    with pytest.raises(UserError, match="finetune"):
        card_of({"name": "x", "stages": {"pretrain": {}}}, "finetune")


def test_a_card_made_before_the_build_ended_has_no_holes():
    card = card_of({"name": "x", "stages": {"pretrain": {"parameters": 10, "seconds": 3.0}}}, "pretrain")
    assert "parakit generate FOLDER" in card
    assert "None" not in card
    assert "–" not in card


def test_a_card_has_the_warnings_of_reward_overoptimization():
    stage = {"parameters": 10, "task": "chat"}
    warnings = [{"warning": "monitor <b>", "step": 1200, "message": "the monitored reward <b> fell"}]
    card = card_of({"name": "x", "stages": {"align": stage | {"warnings": warnings}}}, "align")
    assert "- step 1,200: the monitored reward &lt;b&gt; fell" in card
    assert "overoptimization" not in card_of(
        {"name": "x", "stages": {"align": stage | {"warnings": []}}}, "align"
    )
