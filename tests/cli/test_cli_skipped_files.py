"""What reading left out: counts by reason and kind first, then examples of each, and where all are listed."""

from __future__ import annotations

import json
from pathlib import Path

from parakit.cli.main import main
from parakit.cli.rendering.skipped_files import skipped_by_reason, skipped_lines
from tests.cli.conftest import write_text


def entry(source: str, reason: str) -> dict[str, str]:
    return {"source": source, "reason": reason}


REPORT = {
    "skipped": {"binary": 30, "hidden": 2, "cannot be read": 1},
    "skipped_files": [
        *(entry(f"a/{i:02d}.png", "binary") for i in range(20)),
        *(entry(f"b/{i:02d}.pdf", "binary") for i in range(10)),
        *(entry(f".{i}", "hidden") for i in range(2)),
        entry("z.txt", "cannot be read: Permission denied"),
    ],
}


def test_every_reason_has_its_count_its_kinds_and_examples_of_each_kind():
    binary, hidden, unreadable = skipped_by_reason(REPORT)
    assert (binary["reason"], binary["files"], binary["kinds"]) == ("binary", 30, ".png 20, .pdf 10")
    assert binary["examples"] == "a/00.png, b/00.pdf, a/01.png, ..."
    assert hidden["examples"] == ".0, .1"
    assert unreadable["examples"] == "z.txt (Permission denied)"
    first, *examples, last = skipped_lines(REPORT, "out")
    assert first.startswith("33 files and folders left out: binary 30 (.png 20, .pdf 10); hidden 2 (")
    assert len(examples) == 3
    assert last == "  all of them: skipped_files in out/report.json"
    cut = REPORT | {"skipped_files": REPORT["skipped_files"][:5]}
    assert list(skipped_lines(cut, "out"))[-1].startswith("  the first 5: ")
    assert list(skipped_lines({"skipped": {}, "skipped_files": []}, "out")) == []


def test_text_and_show_list_what_a_folder_held_besides_text(tmp_path: Path, capsys):
    folder = write_text(tmp_path / "text")
    for number in range(12):
        (folder / f"image{number:02d}.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0")
    (folder / "zz.zip").write_bytes(b"PK\3\4\0\0")
    out = tmp_path / "corpus"
    fractions = ["--validation-fraction", "0.2", "--test-fraction", "0.2"]
    assert main(["text", str(folder), "--output", str(out), *fractions]) == 0
    printed = "".join(capsys.readouterr().out.split())  # lines are wrapped
    assert ".png12" in printed
    assert "zz.zip" in printed
    assert "report.json" in printed
    assert main(["show", str(out), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["figures"]
    (title,) = (name for name in figures if name.startswith("files left out"))
    assert "report.json" in title
    rows = figures[title]
    assert sum(row["files"] for row in rows) == 13
    assert main(["show", str(out)]) == 0
    assert ".png 12" in capsys.readouterr().out
