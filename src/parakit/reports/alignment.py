"""The result of an alignment stage as text: accuracy on held-out pairs, reward and KL, before and after."""

from __future__ import annotations

from parakit.common.formatting import is_number, number, percent
from parakit.reports.summary_schema import TrainingSummary


def outcome(figures: TrainingSummary) -> list[str]:
    """Parts of a sentence on an alignment stage; empty for any other stage."""
    before, parts = figures.before, []
    accuracy, logp_accuracy = figures.metric("accuracy"), figures.metric("logp_accuracy")
    if logp_accuracy is not None:
        parts.append(
            f"the chosen answer is the likelier one in {percent(logp_accuracy)} of held-out pairs"
            + _before(percent(before.get("logp_accuracy")))
            + f", and its log-probability rose more in {percent(accuracy)}"
        )
    elif figures.metric("margin") is not None:
        parts.append(_reward_model(figures))
    reward, kl = figures.metric("reward"), figures.metric("kl")
    if reward is not None and is_number(before.get("reward")):
        parts.append(f"reward on held-out prompts {number(reward)}" + _before(number(before["reward"])))
        if kl is not None:
            parts.append(f"KL to the reference {number(kl)} nats per answer")
    return parts


def _reward_model(figures: TrainingSummary) -> str:
    accuracy, judged = percent(figures.metric("accuracy")), figures.reward_eval
    text = f"it ranks {accuracy} of held-out pairs correctly"
    if not judged:
        return text
    return (
        text + f" (95 % between {percent(judged['low'])} and {percent(judged['high'])}; by length alone"
        f" {percent(judged['length_baseline'])}), with a calibration error of {percent(judged['calibration_error'])}"
    )


def _before(value: str) -> str:
    return f" (before: {value})"
