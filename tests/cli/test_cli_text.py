"""`parakit text`: what it prints for people and for machines."""

import json
from pathlib import Path

import pytest

from parakit.cli.text import main
from parakit.common.errors import UserError
from parakit.data import iter_conversations, iter_corpus


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for k in range(80):
        (folder / f"{k}.txt").write_text(f"The text of file {k}, which is about the number {k}.\n" * 3)
    (folder / "80.txt").write_bytes("déjà vu, déjà lu".encode("latin-1"))
    (folder / "[photo].jpg").write_bytes(b"\xff\xd8")
    return folder


def test_a_folder_becomes_a_corpus_and_people_read_what_happened(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(folder), "--output", str(tmp_path / "corpus")]) == 0
    shown = capsys.readouterr().out
    assert "train" in shown
    assert "in/80.txt: cp1252, recognized from its letters" in shown
    assert "not text" in shown
    assert "in/[photo].jpg" in shown
    assert len(list(iter_corpus(tmp_path / "corpus", "train"))) > 60


def test_machines_read_one_json_object(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [str(folder), "--output", str(tmp_path / "corpus"), "--validation-fraction", "0.2", "--json"]
    assert main(argv) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["kind"] == "corpus"
    assert report["documents"] == 81
    assert sum(split["documents"] for split in report["splits"].values()) == 81


def test_conversations_become_a_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"messages": [{"role": "user", "content": f"{k}?"}, {"role": "assistant", "content": "Yes"}]}
        for k in range(90)
    ]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert main([str(tmp_path / "c.jsonl"), "--conversations", "--output", str(tmp_path / "set")]) == 0
    assert "validation" in capsys.readouterr().out
    assert list(iter_conversations(tmp_path / "set", "train"))


def test_mistakes_are_errors_for_the_caller_to_print(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        main([str(tmp_path / "none"), "--output", str(tmp_path / "corpus")])
    with pytest.raises(UserError, match="no text was given"):
        main(["--output", str(tmp_path / "corpus")])
    main([str(folder), "--output", str(tmp_path / "corpus")])
    with pytest.raises(UserError, match="exists already"):
        main([str(folder), "--output", str(tmp_path / "corpus")])
    assert main([str(folder), "--output", str(tmp_path / "corpus"), "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        ("--conversations", "--validation-paths"),
        ("--preferences", "--exclude"),
        ("--conversations", "--text-field"),
    ],
)
def test_settings_of_text_are_refused_with_other_data(tmp_path: Path, kind: str, setting: str) -> None:
    with pytest.raises(UserError, match=f"{setting} is set but has no effect with {kind}"):
        main([str(tmp_path / "c.jsonl"), kind, setting, "v.jsonl", "--output", str(tmp_path / "set")])


def test_statistics_are_the_primers(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--statistics is set but has no effect"):
        main([str(folder), "--output", str(tmp_path / "corpus"), "--statistics"])
    assert not (tmp_path / "corpus").exists()


def test_a_dry_run_lists_what_would_be_read_and_what_not_with_the_way_and_writes_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "noise.txt").write_bytes(bytes(range(256)) * 8)
    before = sorted(tmp_path.rglob("*"))
    assert main([str(folder), "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["files"] == 81
    assert found["formats"]["text"]["files"] == 81
    assert found["bytes"] == sum(path.stat().st_size for path in folder.glob("[0-9]*.txt"))
    skipped = {row["source"]: row for row in found["left_out"]}
    assert skipped["in/[photo].jpg"]["reason"].startswith("not text")
    assert "convert it to text first" in skipped["in/[photo].jpg"]["way"]
    assert "in/noise.txt" in skipped
    assert main([str(folder), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "81 files would be read" in shown
    assert "in/[photo].jpg" in shown
    assert "to include them" in shown
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_that_would_read_nothing_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    (tmp_path / "in").mkdir()
    (tmp_path / "photo.jpg").rename(tmp_path / "in/photo.jpg")
    assert main([str(tmp_path / "in"), "--dry-run", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["skipped"] == {"not text": 1}
    with pytest.raises(UserError, match="no folder to write"):
        main([str(tmp_path / "in")])
