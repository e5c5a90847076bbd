"""What a run changed, in the card, the page and the terminal: figures, answers, and what was not measured."""

from __future__ import annotations

from typing import Any

from parakit.cli.rendering.training_command import show_before_after
from parakit.reports.before_after import effect
from parakit.reports.cards.adapter_card import adapter_card
from parakit.reports.cards.model_card import stage_card
from parakit.reports.rendering import render_report
from parakit.reports.summary_schema import BuildSummary, TrainingSummary

COMPARED: dict[str, Any] = {
    "loss_before": 1.305, "loss_after": 1.145, "general_before": 3.0, "general_after": 3.02, "general_tokens": 882,
    "forgotten": 0.02, "skipped": ["2 of 3 prompts"], "seconds": 12.0,
    "answers": [{"prompt": "<b>Who</b> | what?", "before": "the\nold answer", "after": "the new one"}],
}  # fmt: skip
FIGURES: dict[str, Any] = {"task": "chat", "loss": 1.145, "parameters": 10, "before_after": COMPARED}


def test_a_sentence_says_whether_it_helped_and_what_was_forgotten() -> None:
    helped, general = effect(TrainingSummary.model_validate(FIGURES))
    assert "1.145" in helped
    assert "better by 0.160" in helped
    assert "forgot 0.020 nats a token" in general
    worse = COMPARED | {"loss_after": 1.405, "forgotten": -0.01}
    helped, general = effect(TrainingSummary.model_validate(FIGURES | {"before_after": worse}))
    assert "worse by 0.100" in helped
    assert "gained 0.010" in general
    assert effect(TrainingSummary()) == []


def test_cards_have_a_table_that_no_answer_breaks() -> None:
    for card in (stage_card("m", "finetune", FIGURES), adapter_card("m", "base", "lora", FIGURES)):
        assert "## Before and after" in card
        assert "<b>" not in card
        row = next(line for line in card.splitlines() if "the new one" in line)
        assert row.replace("\\|", "").count("|") == 4
        assert "Not measured: 2 of 3 prompts" in card


def test_the_page_shows_every_tuned_stage_and_no_section_without_one() -> None:
    page = render_report(BuildSummary.model_validate({"name": "m", "stages": {"finetune": FIGURES}}))
    assert 'id="before-after"' in page
    assert "+0.020" in page
    assert "&lt;b&gt;Who" in page
    plain = {name: value for name, value in FIGURES.items() if name != "before_after"}
    page = render_report(BuildSummary.model_validate({"name": "m", "stages": {"finetune": plain}}))
    assert 'id="before-after"' not in page


def test_the_terminal_shows_answers_side_by_side(capsys) -> None:
    show_before_after(FIGURES)
    shown = capsys.readouterr().err
    assert "the old answer" in " ".join(shown.split())
    assert "forgot 0.020 nats a token" in shown
    assert "not measured: 2 of 3 prompts" in shown
    show_before_after({})
    assert capsys.readouterr().err == ""
