"""The report shows every figure of a summary, survives missing parts, fetches nothing, and lets no text
become markup.
"""

import re
from html.parser import HTMLParser

import pytest
from report_sample import SUITES, full_summary, parsed, poisoned, rendered

from parakit.reports.rendering import write_report

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; complains about tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def test_the_page_has_every_figure():
    shown = Page(rendered(full_summary())).words
    for figure in (
        "primer",
        "4.98 M",
        "6 min 42 s",
        "88.9 %",
        "25.5 %",
        "0.613",
        "4.71",
        "parakit chat builds/primer",
        "24,310",
        "9.81 MB",
    ):
        assert figure in shown, figure
    for figure in (
        "story arithmetic",
        "81.2 %",
        "8.4 %",
        "2.418",
        "488",
        "byte-level BPE",
        "4.18",
        "1.21",
        "38.6 %",
        "6 layers of width 256",
    ):
        assert figure in shown, figure
    for figure in (
        "notes/logo.png",
        "binary",
        "empty.txt",
        "cut short",
        "a9f86d0818",
        "max_steps: 600",
        "1f3c9ab",
        "le chien noir",
    ):
        assert figure in shown, figure
    for figure in (
        *("arc_easy", "46.5 %", "5 shots, plain text", "5be1c0ffee5b", "version 1.0, lm-eval 0.4.13"),
        *("1.5 % (3 of 200 items)", "45.5 %"),
        "arc_easy, after tuning: 7 of 200 prompts were longer than the context window",
    ):
        assert figure in shown, figure
    assert "14 - 5 = 9. Tom has 9 apples." in shown
    assert shown.count("Tom has 14 apples. He gives 5") == len(SUITES)


def test_the_page_fetches_nothing_and_runs_nothing():
    html = rendered(full_summary())
    page = Page(html)
    assert not {"script", "link", "iframe", "img", "object", "embed", "form", "base"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert all(
        (value or "").startswith("#")
        for name, value in page.attributes
        if name in ("href", "src", "xlink:href", "action")
    )
    assert not re.search(r"https?:|@import|url\((?!#)", html)
    assert dict(page.attributes)["content"]
    assert "default-src 'none'" in html


@pytest.mark.parametrize(
    "poison",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "</style><svg onload=alert(1)>",
        "' onmouseover='alert(1)",
        "{{ 7*7 }}{% raw %}",
    ],
)
def test_text_never_becomes_markup(poison):
    """Every string of the summary, and the names of suites, stages and settings, carry the poison: the page
    keeps its tags and attributes.
    """
    clean, dirty = full_summary(), poisoned(full_summary(), poison)
    dirty["suites"] = {name + poison: results for name, results in dirty["suites"].items()}
    dirty["recipe"][poison] = poison
    dirty["stages"]["evil" + poison] = {"seconds": 1.0}
    clean["recipe"]["x"], clean["stages"]["evil"] = "x", {"seconds": 1.0}
    dirty["chance"] = {name + poison: value for name, value in dirty["chance"].items()}
    dirty["lineage"] = [
        entry | {"digest": entry["digest"][:8] + poison, "parents": []} for entry in clean["lineage"]
    ]
    clean["lineage"] = [entry | {"parents": []} for entry in clean["lineage"]]
    page = Page(rendered(dirty))
    assert sorted(set(page.tags)) == sorted(set(Page(rendered(clean)).tags))
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.words.count(" ".join(poison.split())) > 30


@pytest.mark.parametrize(
    "gone",
    [
        "suites",
        "benchmarks",
        "evaluations",
        "lineage",
        "recipe",
        "hardware",
        "seconds",
        "chance",
        "suite_mean",
        "stages",
    ],
)
def test_what_is_missing_does_not_appear(gone):
    summary = full_summary()
    del summary[gone]
    page = Page(rendered(summary))
    titles = {
        "suites": "Accuracy on the suites",
        "benchmarks": "Benchmarks",
        "evaluations": "Bits per byte on other texts",
        "lineage": "Lineage",
    }
    if gone in titles:
        assert titles[gone] not in page.words
    assert "None" not in page.words
    assert "Undefined" not in page.words


@pytest.mark.parametrize("gone", ["corpus", "tokenizer", "shards", "pretrain", "finetune", "evaluate"])
def test_a_stage_that_did_not_run_does_not_appear(gone):
    summary = full_summary()
    del summary["stages"][gone]
    shown = Page(rendered(summary)).words
    titles = {
        "corpus": "Corpus",
        "tokenizer": "Tokenizer",
        "pretrain": "Pre-training",
        "finetune": "Fine-tuning",
    }
    assert titles.get(gone, "Undefined") not in shown


def test_a_summary_of_nothing_but_a_name_is_a_page():
    assert "lonely" in Page(rendered({"name": "lonely"})).words


def test_a_base_model_alone_has_one_bar_a_suite():
    summary = full_summary()
    summary["suites"] = {name: {"base": results["base"]} for name, results in summary["suites"].items()}
    summary["suite_mean"] = {"base": 0.2551}
    del summary["benchmarks"]
    shown = Page(rendered(summary)).words
    assert "after tuning" not in shown
    assert "25.5 %" in shown


def test_the_report_is_written_whole(tmp_path):
    path = write_report(parsed(full_summary()), tmp_path / "report.html")
    assert path.read_text(encoding="utf-8") == rendered(full_summary())
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def aligned_summary() -> dict:
    """The same life with one more stage behind it."""
    summary = full_summary()
    for results in summary["suites"].values():
        results["dpo"] = results["tuned"] | {"accuracy": min(1.0, results["tuned"]["accuracy"] + 0.01)}
    summary["stages"] = {
        **{name: found for name, found in summary["stages"].items() if name != "evaluate"},
        "reward": {**summary["stages"]["finetune"], "samples": []},
        "dpo": {**summary["stages"]["finetune"], "samples": [{"prompt": "Hello", "completion": "Good day."}]},
        "evaluate": summary["stages"]["evaluate"],
    }
    summary["models"] = {"base": "pretrain", "tuned": "finetune", "dpo": "dpo"}
    surely = {"low": 0.5, "high": 0.7, "p_value": 1e-9, "n": 250}
    perhaps = {"difference": -0.004, "low": -0.02, "high": 0.01, "p_value": 0.6, "n": 250}
    summary["against_parent"] = {
        "tuned": {
            "parent": "base",
            "suites": {
                "facts": {"difference": 0.724, **surely},
                "sentiment": {"difference": -0.311, **surely},
                "agreement": perhaps,
            },
            "all": {"difference": 0.634, **surely},
        },
        "dpo": {"parent": "tuned", "suites": {"facts": perhaps}, "all": perhaps},
    }
    return summary


def test_every_stage_is_shown_against_its_parent():
    shown = Page(rendered(aligned_summary())).words
    assert "Effect of each stage" in shown
    assert (
        "after tuning before tuning 25.5 % 88.9 % +63.4 +50.0 to +70.0 facts +72.4 sentiment -31.1" in shown
    )
    assert "after DPO after tuning" in shown
    assert "agreement -0.4" not in shown, "a change within chance is not told as one"
    assert "Direct preference optimization" in shown
    assert "Reward modelling" in shown
    assert "Good day." in shown


def test_the_page_sums_up_the_last_model_of_the_pipeline():
    summary = aligned_summary()
    mean = sum(results["dpo"]["accuracy"] for results in summary["suites"].values()) / len(SUITES)
    shown = Page(rendered(summary)).words
    assert f"held-out questions: {100 * mean:.1f} %; before tuning, 25.5 %." in shown


def test_what_the_model_wrote_at_points_of_the_run_is_shown_in_order():
    text = " ".join(Page(rendered(full_summary())).text)
    places = [
        text.index(part)
        for part in ("614 k tokens", "the the and a", "1.84 M tokens", "saw the key", "old house")
    ]
    assert places == sorted(places)
    summary = full_summary()
    summary["stages"]["pretrain"]["samples_by_step"] = summary["stages"]["pretrain"]["samples_by_step"][:1]
    assert "at points of the run" not in rendered(summary)


def test_a_build_without_comparisons_has_no_such_section():
    assert "Effect of each stage" not in Page(rendered(full_summary())).words
