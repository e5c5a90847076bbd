"""Builds run one after the other as processes, are stopped by SIGINT, and are found again by another studio."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from parakit.common.errors import UserError
from parakit.serving.studio.training import build_queue
from parakit.serving.studio.training.build_queue import BuildQueue, QueuedBuild, save_recipe
from tests.waiting import wait_until

WAITS = "import time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('checkpoint')\n    raise SystemExit(130)\n"


def until(condition: Callable[[], bool], queue: BuildQueue) -> None:
    def advanced() -> bool:
        queue.advance()
        return condition()

    if not condition():
        wait_until(advanced, what=queue.items)


def state(queue: BuildQueue, item: QueuedBuild) -> str:
    return queue.item(item.id).state


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`programs(text)`: what `python -m parakit` is in the tests: a package with this program."""
    package = tmp_path / "parakit"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "a.yaml").write_text("name: a\n")

    def write(text: str) -> None:
        (package / "__main__.py").write_text(text)

    return write


def test_builds_run_one_after_the_other(tmp_path: Path, programs: Callable[[str], None]) -> None:
    programs("import sys\nprint('the doctor ran 3 checks: all passed')\nsys.exit('wrong' in sys.argv)")
    queue = BuildQueue(tmp_path)
    first = queue.add("recipes/a.yaml", "a")
    second = queue.add("recipes/a.yaml", "b", ("wrong",))
    with pytest.raises(UserError, match="in the queue already"):
        queue.add("recipes/a.yaml", "a")
    queue.advance()
    assert [state(queue, one) for one in (first, second)] == ["running", "waiting"]
    until(lambda: state(queue, second) == "failed", queue)
    assert state(queue, first) == "finished"
    assert "$ parakit build recipes/a.yaml --name a" in queue.log_end(first.id)
    assert queue.doctor_findings(first.id) == ["the doctor ran 3 checks: all passed"]
    queue.remove_ended()
    assert queue.items == []


def test_a_running_build_is_stopped_by_sigint_and_found_by_another_studio(
    tmp_path: Path, programs: Callable[[str], None]
) -> None:
    programs("print('up', flush=True)\n" + WAITS)
    queue = BuildQueue(tmp_path)
    item = queue.add("recipes/a.yaml", "a")
    until(lambda: "up" in queue.log_end(item.id), queue)
    again = BuildQueue(tmp_path)  # a studio that was started again
    assert state(again, item) == "running"
    again.advance()
    assert state(again, item) == "running"
    queue.stop(item.id)
    until(lambda: state(queue, item) == "stopped", queue)
    assert "checkpoint" in queue.log_end(item.id)
    again.advance()
    assert state(again, item) == "lost"  # it was not there to see how it ended
    assert state(again, again.again(item.id)) == "waiting"


def test_a_waiting_build_is_taken_out(tmp_path: Path, programs: Callable[[str], None]) -> None:
    queue = BuildQueue(tmp_path)
    item = queue.add("recipes/a.yaml", "a")
    queue.stop(item.id)
    assert state(queue, item) == "stopped"


def test_a_recipe_is_never_overwritten(tmp_path: Path) -> None:
    assert save_recipe(tmp_path, "a", "name: a\n") == "recipes/a.yaml"
    assert save_recipe(tmp_path, "a", "name: a\n") == "recipes/a.yaml"
    assert save_recipe(tmp_path, "a", "name: a\nseed: 1\n") == "recipes/a-2.yaml"
    assert (tmp_path / "recipes" / "a.yaml").read_text() == "name: a\n"


def test_what_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = BuildQueue(tmp_path)
    with pytest.raises(UserError, match="no such recipe"):
        queue.add("recipes/none.yaml", "a")
    with pytest.raises(UserError, match="has no build 7"):
        queue.stop("7")
    save_recipe(tmp_path, "a", "name: a\n")
    item = queue.add("recipes/a.yaml", "a")
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    queue.advance()
    assert state(queue, item) == "failed"
    assert "could not be started" in queue.log_end(item.id)


def test_a_damaged_queue_file_is_an_empty_queue(tmp_path: Path) -> None:
    folder = tmp_path / build_queue.FOLDER
    folder.mkdir()
    (folder / build_queue.QUEUE).write_text("{")
    assert BuildQueue(tmp_path).items == []
