"""The built-in tools: exact arithmetic and nothing else of Python, files of one folder and no other."""

from __future__ import annotations

import datetime
import random
from pathlib import Path

import pytest

from parakit.assistants.tools import built_in
from parakit.assistants.tools.tool import ToolBox, ToolError
from parakit.common.errors import UserError


def test_calculations_equal_those_of_python() -> None:
    draw = random.Random(0)
    for _ in range(200):
        a, b, c = (draw.randint(-99, 99) for _ in range(3))
        text = f"({a} {draw.choice('+-*')} {b}) {draw.choice('+-*')} {c}"
        assert built_in.evaluate_expression(text) == str(eval(text))
    assert built_in.evaluate_expression("7 / 2") == "3.5"
    assert built_in.evaluate_expression("2 ^ 10") == "1024"
    assert built_in.evaluate_expression("round(sqrt(2) * 100)") == "141"
    assert built_in.evaluate_expression("-max(2, 3) // 2") == "-2"


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('ls')",
        "(1).__class__",
        "9 ** 9 ** 9",
        "1 << 100000",
        "1 / 0",
        "[1] * 10**9",
        "True",
        "'a' * 9",
        "(" * 400,
        "1" * 2000,
        "sqrt(-1)",
        "(-8) ** 0.5",
        "lambda: 1",
        "",
        "factorial(10)",
    ],
)
def test_what_is_no_arithmetic_or_too_large_is_refused(text: str) -> None:
    with pytest.raises(ToolError):
        built_in.evaluate_expression(text)


def test_files_are_read_below_the_folder_only(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("one\ntwo\nthree")
    (folder / "long.txt").write_text("x" * 50_000)
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    box = ToolBox([built_in.read_file(folder)])

    def read(path: str, first_line: int = 1) -> tuple[str, bool]:
        import json

        result = box.call("read_file", json.dumps({"path": path, "first_line": first_line}))
        return result.text, result.is_error

    assert read("a.txt") == ("one\ntwo\nthree", False)
    assert read("a.txt", 2) == ("two\nthree", False)
    assert read(".") == ("a.txt\nlink.txt\nlong.txt\nsub/", False)
    assert read("a.txt", 9)[1]
    assert "left out" in read("long.txt")[0] or "continues" in read("long.txt")[0]
    for path in ("../secret.txt", str(tmp_path / "secret.txt"), "link.txt", "/etc/passwd", "a\0b", "nothing"):
        text, is_error = read(path)
        assert is_error, path
        assert "secret" not in text.replace("secret.txt", "")
    with pytest.raises(UserError, match="is no folder"):
        built_in.read_file(tmp_path / "nowhere")


def test_date_python_and_search_give_what_their_functions_give() -> None:
    day = datetime.datetime(2026, 11, 30, 9, 5)
    box = ToolBox(
        [
            built_in.date(lambda: day),
            built_in.python(lambda code: "" if code == "pass" else "4\n"),
            built_in.search(lambda query, n: [("a.md", f"about {query}")] * n, "About boats.", 2),
        ]
    )
    assert not any(tool.changes for tool in box.tools)
    assert box.call("date", "{}").text == "2026-11-30, Monday, 09:05"
    assert box.call("python", '{"code": "print(4)"}').text == "4\n"
    assert box.call("python", '{"code": "pass"}').text == "(the program printed nothing)"
    assert box.call("search", '{"query": "x"}').text == "[a.md]\nabout x\n\n[a.md]\nabout x"
    assert box.tools[2].schema.description.endswith("About boats.")
