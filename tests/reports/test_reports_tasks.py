"""The report, the card and the next command of a model that was made for a task."""

from __future__ import annotations

import pytest
from report_sample import card_of, full_summary, parsed, poisoned, rendered

from parakit.reports.formatting import next_command, summary_sentence
from parakit.reports.tasks import MAX_CONFUSED, task_section
from tests.reports.test_reports_rendering import Page

CLASSIFIED = {
    "task": "classify",
    "split": "test",
    "n": 500,
    "figures": [
        {"name": "accuracy", "value": 0.974, "low": 0.956, "high": 0.985, "unit": "share", "chance": 0.52},
        {"name": "f1_macro", "value": 0.9731, "low": 0.95, "high": 0.98, "unit": "share", "note": ""},
        {"name": "matthews", "value": 0.946, "low": 0.91, "high": 0.97, "unit": "number", "note": ""},
    ],
    "labels": ["negative", "positive"],
    "confusion": [[241, 4], [9, 246]],
    "samples": [
        {"input": "It was not boring.", "prediction": "negative", "expected": "positive", "correct": False},
        {"input": "I liked the soup.", "prediction": "positive", "expected": "positive", "correct": True},
    ],
}
TRANSLATED = {
    "task": "translate",
    "split": "test",
    "n": 300,
    "figures": [
        {
            "name": "bleu",
            "value": 71.24,
            "low": 69.0,
            "high": 73.0,
            "unit": "points",
            "note": "nrefs:1|bs:1000",
        },
        {"name": "chrf", "value": 80.0, "low": 79.0, "high": 81.0, "unit": "points", "note": ""},
    ],
    "labels": [],
    "confusion": [],
    "samples": [{"input": "the cat", "prediction": "le chat", "expected": "le chat noir", "correct": None}],
}


def summary(family: str = "encoder", task: dict | None = CLASSIFIED) -> dict:
    made = full_summary()
    for name in ("suites", "suite_mean", "chance", "evaluations"):
        del made[name]
    made["recipe"] = {"family": family, "finetune": task and {"task": task["task"]}}
    for stage in ("pretrain", "finetune"):
        figures = made["stages"][stage]
        del figures["bits_per_byte"], figures["perplexity"], figures["samples"]
        figures |= {"family": family, "loss_unit": "nats per masked token"}
    if task:
        made["stages"]["finetune"] |= {"task": task["task"], "loss_unit": "nats per example"}
    else:
        del made["stages"]["finetune"]
    return made | {"task": task}


def test_the_page_has_every_metric_of_a_task_with_its_interval():
    shown = Page(rendered(summary())).words
    for words in (
        "Classification",
        "Measured on 500 examples",
        "97.4 %",
        "95.6 % – 98.5 %",
        "0.946",
        "model: negative",
        "241",
        "It was not boring.",
        "nats per masked token",
        "nats per example",
        "Fine-tuning on examples",
        "An encoder of 4.98 M parameters",
    ):
        assert words in shown, words
    assert "parakit predict builds/primer" in shown
    assert "parakit chat" not in shown


def test_the_page_has_points_and_their_signature():
    shown = Page(rendered(summary("encoder-decoder", TRANSLATED))).words
    for words in ("Translation", "71.2", "69.0 – 73.0", "nrefs:1|bs:1000", "le chat noir"):
        assert words in shown, words
    assert "Confusion matrix" not in shown


def test_wrong_and_right_are_marked_and_neither_where_there_is_none():
    page = rendered(summary())
    assert page.count('class="right"') == 1
    assert page.count('class="wrong"') == 1
    other = rendered(summary("encoder-decoder", TRANSLATED))
    assert 'class="right"' not in other
    assert 'class="wrong"' not in other


def test_text_of_a_task_never_becomes_markup():
    poison = "<script>alert(1)</script>"
    clean, dirty = summary(), summary()
    dirty["task"] = poisoned(CLASSIFIED, poison)
    page = Page(rendered(dirty))
    assert "script" not in page.tags
    assert sorted(set(page.tags)) == sorted(set(Page(rendered(clean)).tags))


def test_a_table_too_wide_for_a_page_is_left_out():
    labels = [str(i) for i in range(MAX_CONFUSED + 1)]
    wide = CLASSIFIED | {"labels": labels, "confusion": [[0] * len(labels) for _ in labels]}
    assert task_section(parsed({"task": wide})).confusion is None
    assert task_section(parsed({"task": CLASSIFIED})).confusion.labels == ("negative", "positive")


def test_no_task_no_section():
    assert task_section(parsed({})) is None
    assert task_section(parsed({"task": CLASSIFIED | {"figures": []}})) is None
    assert "Task metrics" not in Page(rendered(full_summary())).words


@pytest.mark.parametrize(
    ("family", "task", "command"),
    [
        ("encoder", CLASSIFIED, "parakit predict builds/primer"),
        ("decoder", CLASSIFIED, "parakit predict builds/primer"),
        ("encoder-decoder", TRANSLATED, "parakit predict builds/primer"),
        ("encoder", None, "[MASK]"),
        ("decoder", None, "parakit generate builds/primer"),
        ("encoder-decoder", None, "parakit finetune builds/primer --task translate"),
    ],
)
def test_the_next_command_is_one_that_the_model_can_do(family, task, command):
    assert command in next_command(parsed(summary(family, task)))["command"]


def test_the_model_that_was_made_is_called_what_it_is():
    assert summary_sentence(parsed(summary("encoder"))).startswith("An encoder of")
    assert summary_sentence(parsed(summary("encoder-decoder", TRANSLATED))).startswith(
        "An encoder-decoder of"
    )
    assert summary_sentence(parsed(full_summary())).startswith("A language model of")


@pytest.mark.parametrize(
    ("family", "task", "tag", "auto", "command"),
    [
        ("encoder", CLASSIFIED, "text-classification", "AutoModelForSequenceClassification", "predict"),
        ("decoder", CLASSIFIED, "text-classification", "AutoModelForSequenceClassification", "predict"),
        ("encoder-decoder", TRANSLATED, "translation", "AutoModelForSeq2SeqLM", "predict"),
        ("encoder", None, "fill-mask", "AutoModelForMaskedLM", "[MASK]"),
        ("decoder", None, "text-generation", "AutoModelForCausalLM", "generate"),
    ],
)
def test_the_card_names_the_class_and_the_command(family, task, tag, auto, command):
    card = card_of(summary(family, task), "finetune" if task else "pretrain")
    assert f"pipeline_tag: {tag}\n" in card
    assert f"import {auto}," in card
    assert command in card.split("## Use")[1].split("```python")[0]
    assert "nats per" in card
    assert "Bits per byte" not in card


def test_the_heading_mentions_wrong_examples_only_where_there_are_some():
    right = [sample for sample in CLASSIFIED["samples"] if sample["correct"]]
    assert "Examples, the wrong ones first" in Page(rendered(summary())).words
    shown = Page(rendered(summary(task=CLASSIFIED | {"samples": right}))).words
    assert "Examples" in shown
    assert "the wrong ones first" not in shown


def test_an_empty_prediction_is_shown_as_nothing():
    silent = [{"input": "the cat", "prediction": "", "expected": "le chat", "correct": None}]
    assert "(nothing)" in Page(rendered(summary("encoder-decoder", TRANSLATED | {"samples": silent}))).words


def test_columns_that_nothing_fills_are_left_out():
    made = summary()
    made["stages"] = {name: dict(figures) for name, figures in made["stages"].items()}
    assert "share of peak" in Page(rendered(made)).words
    for figures in made["stages"].values():
        for name in ("share_of_peak", "predicted_seconds"):
            figures.pop(name, None)
    shown = Page(rendered(made)).words
    assert "tokens per second" in shown
    assert "share of peak" not in shown
    assert "predicted" not in shown
