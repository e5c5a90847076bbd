"""What the report says of alignment: before beside after, and nothing where there was none."""

from __future__ import annotations

from parakit.reports.alignment import outcome as outcome_of
from parakit.reports.summary_schema import TrainingSummary


def outcome(figures: dict) -> list[str]:
    return outcome_of(TrainingSummary.model_validate(figures))


def test_each_kind_of_alignment_is_described_by_its_own_metrics() -> None:
    pairs = {
        "logp_accuracy": 0.75,
        "accuracy": 0.8,
        "margin": 0.3,
        "before": {"logp_accuracy": 0.5, "accuracy": 0.5},
    }
    assert outcome(pairs) == [
        "the chosen answer is the likelier one in 75.0 % of held-out pairs (before: 50.0 %), and its log-probability rose"
        " more in 80.0 %"
    ]
    judge = {"accuracy": 0.91, "margin": 2.0, "before": {"accuracy": 0.5}}
    assert outcome(judge) == ["it ranks 91.0 % of held-out pairs correctly"]
    judged = {"low": 0.88, "high": 0.94, "length_baseline": 0.53, "calibration_error": 0.02}
    assert outcome(judge | {"reward_eval": judged})[0].endswith(
        "correctly (95 % between 88.0 % and 94.0 %; by length alone 53.0 %), with a calibration error of 2.0 %"
    )
    online = {"reward": 1.5, "kl": 2.25, "before": {"reward": 1.0, "kl": 0.0}}
    assert outcome(online) == [
        "reward on held-out prompts 1.50 (before: 1)",
        "KL to the reference 2.25 nats per answer",
    ]
    assert outcome({"loss": 1.2}) == []
