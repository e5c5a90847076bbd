"""Functions of a file run in a process of their own, which may hang, print, exit or die without touching the conversation."""

from __future__ import annotations

from pathlib import Path

import pytest

from parakit.assistants.tools.config import ToolLimits
from parakit.assistants.tools.tool import ToolBox
from parakit.assistants.tools.worker_client import FunctionFile
from parakit.common.errors import UserError

HUGE = 50_000_000
FUNCTIONS = '''
import os, sys, time
from parakit.assistants.tools.functions import read_only

n_calls = 0

@read_only
def count() -> int:
    """How often it was called."""
    global n_calls
    n_calls += 1
    return n_calls

def shout(megabytes: int) -> str:
    for _ in range(megabytes):
        print("x" * 2**20)
        os.write(2, b"y" * 2**20)
    return "done"

def huge() -> str:
    return "z" * 50_000_000

def die() -> str:
    os._exit(1)

def hang() -> str:
    time.sleep(60)
    return "late"

def _private() -> str:
    return ""
'''


def test_whatever_the_functions_do_the_next_call_is_answered(tmp_path: Path) -> None:
    path = tmp_path / "my_tools.py"
    path.write_text(FUNCTIONS)
    file = FunctionFile(path, limits := ToolLimits(tool_timeout=3, max_result_chars=1000))
    try:
        box = ToolBox(file.tools, limits)
        assert [tool.name for tool in box.tools] == ["count", "shout", "huge", "die", "hang"]
        assert [tool.changes for tool in box.tools] == [False, True, True, True, True]
        assert box.call("count", "{}").text == "1"
        assert box.call("shout", '{"megabytes": 64}').text == "done"
        assert box.call("shout", '{"megabytes": "many"}').is_error
        huge = box.call("huge", "{}")
        assert len(huge.text) < 1100
        assert huge.n_omitted_chars == HUGE - 1000
        assert f"[{HUGE - 1000:,} characters were left out]" in huge.text
        assert box.call("count", "{}").text == "2"
        assert "has ended" in box.call("die", "{}").text
        assert box.call("count", "{}").text == "1"  # a new process
        assert "no result after 3 s" in box.call("hang", "{}").text
        assert box.call("count", "{}").text == "1"
    finally:
        file.close()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import sys; sys.exit(4)", "SystemExit"),
        ("x = 1", "defines no function"),
        ("def f(a): ...", "no type hint"),
    ],
)
def test_a_file_that_gives_no_tools_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "bad.py"
    path.write_text(text)
    with pytest.raises(UserError, match=reason) as caught:
        FunctionFile(path)
    assert caught.value.hint
    with pytest.raises(UserError, match="no such file"):
        FunctionFile(tmp_path / "missing.py")
