"""What a run changed, as text: whether it helped, what it cost in general ability, and answers before and after."""

from __future__ import annotations

from dataclasses import dataclass

from parakit.common.formatting import is_number, number
from parakit.reports.formatting import ROLE_OF_STAGE, ROLES, humanize
from parakit.reports.summary_parts import AnswerPair
from parakit.reports.summary_schema import BuildSummary, TrainingSummary

MAX_CHARS = 240


def effect(figures: TrainingSummary) -> list[str]:
    """Parts of a sentence: the held-out loss and that of the general text, before and after."""
    found = figures.before_after
    if found is None:
        return []
    parts = []
    if is_number(found.loss_before) and is_number(found.loss_after):
        gain = found.loss_before - found.loss_after
        parts.append(
            f"held-out loss {found.loss_after:.3f} {figures.loss_unit} ({found.loss_before:.3f} before):"
            f" {'better' if gain >= 0 else 'worse'} by {abs(gain):.3f}"
        )
    if general := general_effect(figures):
        parts.append(general)
    return parts


def general_effect(figures: TrainingSummary) -> str:
    """What the run cost: the rise of the loss on the general text; empty where it was not measured."""
    found = figures.before_after
    if found is None or not (is_number(found.general_before) and is_number(found.forgotten)):
        return ""
    verb = "forgot" if found.forgotten >= 0 else "gained"
    return (
        f"general text: loss {found.general_after:.3f} nats per token ({found.general_before:.3f} before), {verb}"
        f" {abs(found.forgotten):.3f} nats a token"
    )


def shorten(text: str, max_chars: int = MAX_CHARS) -> str:
    """A prompt or an answer on one line, cut at `max_chars`."""
    line = " ".join(text.split())
    return line if len(line) <= max_chars else line[: max_chars - 1].rstrip() + "…"


@dataclass(frozen=True)
class StageEffect:
    """One stage's row of the report, and its answers."""

    title: str
    loss_before: str
    loss_after: str
    unit: str
    general_before: str
    general_after: str
    forgotten: str
    seconds: str
    answers: tuple[AnswerPair, ...]
    skipped: tuple[str, ...]


def stage_effects(summary: BuildSummary) -> list[StageEffect]:
    """Of every stage that tuned a model, in order."""
    rows = []
    for name, figures in summary.stages.items():
        found = figures.before_after if isinstance(figures, TrainingSummary) else None
        if found is None:
            continue
        assert isinstance(figures, TrainingSummary)
        forgotten = f"{found.forgotten:+.3f}" if is_number(found.forgotten) else number(None)
        losses = [found.loss_before, found.loss_after, found.general_before, found.general_after]
        before, after, general_before, general_after = (number(loss, 4) for loss in losses)
        role = ROLE_OF_STAGE.get(name, name)
        rows.append(
            StageEffect(
                title=ROLES.get(role, humanize(name)),
                loss_before=before,
                loss_after=after,
                unit=figures.loss_unit,
                general_before=general_before,
                general_after=general_after,
                forgotten=forgotten,
                seconds=f"{found.seconds or 0:.1f} s",
                answers=found.answers,
                skipped=found.skipped,
            )
        )
    return rows
