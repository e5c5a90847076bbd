"""The registry of the doctor's checks: every check is declared with `@check`, wherever it lives.

A check is a function that takes a context and returns what it saw that is wrong, in one line, or None. The declaration
gives it a name, the tasks it applies to, and the texts that `parakit doctor` and `docs/pitfalls.md` print. The order of
declaration is the order of running: narrow checks come before wide ones, because the first failure stops the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from parakit.common.progress import log

Find = Callable[[Any], str | None]


@dataclass(frozen=True)
class CheckResult:
    """Result of one check. Where it failed, `detail` says what was seen and where."""

    name: str
    passed: bool
    prevents: str
    noticed_by: str
    remedy: str
    detail: str = ""
    skipped: bool = False
    """Not run, because the time for the checks was over; `passed` is then True."""
    warning: bool = False
    """Where it failed, the run goes on: the result may be right, and may mean less than it seems to."""

    @property
    def stops(self) -> bool:
        """Whether a run must not start."""
        return not self.passed and not self.warning


@dataclass(frozen=True)
class Check:
    """A declared check."""

    name: str
    """Stable between versions: the name of the error that stops a run."""
    subject: str
    """Heading of the check in docs/pitfalls.md."""
    applies_to: frozenset[str]
    """Names or row formats of tasks in `training.tasks`; or "distill", "replay", "prompts"."""
    prevents: str
    """What goes wrong without the check."""
    noticed_by: str
    """How the check notices it."""
    remedy: str
    """What to do when the check fails."""
    sources: tuple[str, ...]
    """Public reports of the mistake: project and issue."""
    runs_model: bool
    """Whether it runs inside `probes.probing`, after the checks that only read data."""
    blocking: bool
    """Whether nothing after it can be checked when it fails."""
    passes: float
    """About how many forward passes over a small batch it takes."""
    find: Find
    warns: bool = False
    """Whether a failure is a warning, and the run goes on."""

    def run(self, context: Any) -> CheckResult:
        """Look for the mistake in one training run."""
        detail = self.find(context) or ""
        return CheckResult(
            self.name, not detail, self.prevents, self.noticed_by, self.remedy, detail, warning=self.warns
        )

    def skip(self) -> CheckResult:
        """The result of a check that is not run."""
        return CheckResult(self.name, True, self.prevents, self.noticed_by, self.remedy, skipped=True)


_CHECKS: dict[str, Check] = {}


def check(
    name: str,
    *,
    subject: str,
    applies_to: tuple[str, ...],
    prevents: str,
    noticed_by: str,
    remedy: str,
    sources: tuple[str, ...] = (),
    runs_model: bool = False,
    blocking: bool = False,
    passes: float | None = None,
    warns: bool = False,
) -> Callable[[Find], Find]:
    """Register the decorated function under a unique name."""

    def register(find: Find) -> Find:
        assert name not in _CHECKS, f"two checks are called {name}"
        texts = (prevents, noticed_by, remedy, sources)
        cost = passes if passes is not None else 2.0 if runs_model else 0.0
        _CHECKS[name] = Check(
            name, subject, frozenset(applies_to), *texts, runs_model, blocking, cost, find, warns
        )
        return find

    return register


def all_checks() -> list[Check]:
    """Every check that was imported, in the order of declaration."""
    return list(_CHECKS.values())


def checks_for(names: Iterable[str]) -> list[Check]:
    """The checks that apply to one of the names, those that only read data first."""
    selected = [one for one in _CHECKS.values() if one.applies_to.intersection(names)]
    return sorted(selected, key=lambda one: one.runs_model)


def log_warnings(title: str, results: Iterable[CheckResult]) -> None:
    """Print what failed without stopping the run, a line each."""
    for result in results:
        if not result.passed and result.warning:
            log(f"{title}: warning: {result.name}: {result.detail}. {result.remedy}")
