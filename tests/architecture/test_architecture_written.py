"""Every command, flag, make target and link in README, CONTRIBUTING and docs/ exists."""

from __future__ import annotations

from pathlib import Path

import command_line
import prose_rules
import pytest
import written_rules
from package import ROOT

PAGES = written_rules.documents(ROOT)


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def test_there_are_pages_to_check() -> None:
    assert {"README.md", "CONTRIBUTING.md"} <= {_name(page) for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_commands_and_flags_that_are_written_exist(page: Path) -> None:
    assert written_rules.wrong_commands(page, ROOT, command_line.help_of) == []


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_make_targets_and_links_that_are_written_exist(page: Path) -> None:
    assert written_rules.missing_make_targets(page, ROOT) == []
    assert written_rules.dead_links(page, ROOT) == []


def test_pages_are_written_in_plain_words() -> None:
    pages = [*PAGES, ROOT / "docs" / "log.md", ROOT / "CHANGELOG.md"]
    assert prose_rules.private_prose_in_pages(pages, ROOT) == []


def test_every_entry_of_the_log_has_a_title_a_verdict_and_a_figure() -> None:
    assert written_rules.malformed_log_entries((ROOT / "docs" / "log.md").read_text(encoding="utf-8")) == []
