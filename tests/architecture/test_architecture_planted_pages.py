"""The checks of written pages, seen to fail: wrong verbs, flags, make targets, links, and traces of
somebody's machine.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import written_rules

HELP = {
    (): "build  tokenizer  chat",
    ("build",): "--text PATH  --dry-run, -n  --training.learning-rate FLOAT",
    ("tokenizer",): "train encode",
    ("tokenizer", "train"): "--vocab-size INT",
    ("chat",): "--seed INT",
    ("chat", "model"): "--seed INT",
}


def _page(root: Path, text: str, name: str = "README.md") -> Path:
    page = root / name
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text, encoding="utf-8")
    return page


@pytest.mark.parametrize(
    "command",
    [
        "parakit bild",
        "parakit build --txt books",
        "$ parakit build \\\n    --text books \\\n    --dryrun",
        ".venv/bin/parakit tokenizer trains",
        "parakit tokenizer train --vocab 3",
        "parakit --tezt books",
        "parakit build --training.learning-rat=0.1",
    ],
)
def test_a_wrong_command_is_noticed(command: str, tmp_path: Path) -> None:
    page = _page(tmp_path, f"Text\n\n```sh\n{command}\n```\n")
    assert len(written_rules.wrong_commands(page, tmp_path, HELP.get)) == 1


def test_a_wrong_command_in_the_running_text_is_noticed(tmp_path: Path) -> None:
    page = _page(tmp_path, "Say `parakit build --fast` now.")
    assert len(written_rules.wrong_commands(page, tmp_path, HELP.get)) == 1


@pytest.mark.parametrize(
    "command",
    [
        "parakit",
        "parakit --help",
        "parakit build",
        "parakit build --text books --dry_run  # tells what would run",
        "parakit build -n | head",
        "parakit build --training.learning-rate=0.1 && ls",
        "parakit build [RECIPE | --text PATH ...]",
        "parakit tokenizer train --vocab-size 300",
        "parakit chat model --seed 3",
        "parakit chat builds/primer --seed 3",
        "ls builds --color",
    ],
)
def test_a_right_command_passes(command: str, tmp_path: Path) -> None:
    page = _page(tmp_path, f"```sh\n{command}\n```\n")
    assert written_rules.wrong_commands(page, tmp_path, HELP.get) == []


def test_missing_make_targets_and_dead_links_are_noticed(tmp_path: Path) -> None:
    _page(tmp_path, "install: x\n\techo\nbench-table:\n", "Makefile")
    page = _page(
        tmp_path,
        "```sh\nmake install\nmake instal\n```\n"
        "`make bench-table`, `make tests`, [a](b.md), [c](Makefile), make sure",
    )
    assert len(written_rules.missing_make_targets(page, tmp_path)) == 2
    assert written_rules.dead_links(page, tmp_path) == ["README.md: b.md does not exist"]


@pytest.mark.parametrize(
    "trace",
    [
        "/ho" + "me/ann/x",
        "see /wor" + "k/main",
        "/Us" + "ers/ann",
        "8.8" + ".8.8",
        "ann@posteo" + ".de",
        "'/roo" + "t/.cache'",
    ],
)
def test_a_personal_trace_is_noticed(trace: str, tmp_path: Path) -> None:
    _page(tmp_path, f"fine\n{trace}\n", "docs/page.md")
    assert len(written_rules.personal_traces(tmp_path)) == 1


@pytest.mark.parametrize(
    "innocent",
    ["127.0.0.1:8000", "../shared/data", "a@example.com", "/v1/models", "version 2.13.0", "~/work/x"],
)
def test_an_innocent_line_is_no_trace(innocent: str, tmp_path: Path) -> None:
    _page(tmp_path, innocent, "docs/page.md")
    assert written_rules.personal_traces(tmp_path) == []


def test_the_log_is_left_out_of_the_checked_pages(tmp_path: Path) -> None:
    for name in ("README.md", "docs/log.md", "docs/tutorial.md", "docs/decisions/0001-x.md"):
        _page(tmp_path, "x", name)
    names = {page.name for page in written_rules.documents(tmp_path)}
    assert names == {"README.md", "tutorial.md", "0001-x.md"}


@pytest.mark.parametrize(
    "entry",
    [
        "### 2026-11-22\n\n**Verdict:** kept. **Figure:** 2 ms.\n",
        "### 2026-11-22: Muon\n\n**Figure:** 2 ms.\n",
        "### 2026-11-22: Muon\n\n**Verdict:** nice. **Figure:** 2 ms.\n",
        "### 2026-11-22: Muon\n\n**Verdict:** kept.\n",
    ],
)
def test_a_log_entry_without_title_verdict_or_figure_is_noticed(entry: str) -> None:
    good = "### 2026-11-21: Muon\n\n**Verdict:** kept (in part). **Figure:** 2 ms.\n"
    assert written_rules.malformed_log_entries(good) == []
    assert len(written_rules.malformed_log_entries(good + entry)) == 1
    assert len(written_rules.malformed_log_entries(good + good.replace("21", "20"))) == 1
