"""A corpus made in parts has the bytes of one made by a single process, and resumes after a kill."""

from __future__ import annotations

import gzip
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from parakit.common.errors import UserError
from parakit.common.files import read_json
from parakit.data.config import TextConfig
from parakit.data.corpus import parts_folder, prepare_corpus
from parakit.data.parallel import (
    near_duplicate_stages,
    parallel_cleaning,
    parallel_reading,
    row_parts,
    task_runner,
)
from parakit.data.parallel.plan import plan_corpus
from parakit.data.parallel.tasks import run_task
from parakit.data.read_report import BrokenRows, ReadReport
from tests.data.duplicates.planted import random_words

FILES = ("train.jsonl", "validation.jsonl", "test.jsonl", "report.json", "lineage.json")
STEPS = ("repair_text", "personal_data", "near_duplicates")


def write_inputs(folder: Path, n: int = 12) -> Path:
    """Files of several kinds, among them a duplicate, broken rows, a binary file, bad bytes and text to repair."""
    rng = random.Random(4)
    folder.mkdir()
    texts = [" ".join(random_words(rng, rng.randint(60, 200))) for _ in range(n)]
    for i, text in enumerate(texts):
        (folder / f"{i:03d}.txt").write_text(f"{text} a{i}@example.org\n")
    (folder / "copy.txt").write_text(texts[2] + "\n")
    (folder / "near.txt").write_text(f"{texts[5]} and more\n")
    (folder / "mojibake.md").write_text("It â€œwasâ€\x9d a cafÃ©, sheâ€™s sure. " + texts[1][:200])
    (folder / "picture.png").write_bytes(bytes(range(256)))
    (folder / "bad.txt").write_bytes(b"one \xff\xfe two " + texts[0].encode())
    rows = [json.dumps({"text": f"{text} row", "other": 1}) for text in texts[:6]]
    with gzip.open(folder / "rows.jsonl.gz", "wt") as file:
        file.write("\n".join([*rows, "{broken", json.dumps({"text": ""})]))
    return folder


def corpus_bytes(path: Path) -> dict[str, bytes]:
    lineage = json.loads((path / "lineage.json").read_text())
    lineage.pop("created", None)
    return {name: (path / name).read_bytes() for name in FILES[:4]} | {
        "config": str(lineage["config"]).encode()
    }


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Parts of a few files or rows, in this process; counts the tasks that ran."""
    n_tasks = Counter[str]()

    def in_turn(folder: Path, numbers: list[int], workers: int) -> None:
        for number in numbers:
            n_tasks[read_json(folder / "settings.json")["kind"]] += 1
            run_task(folder, number)

    monkeypatch.setattr(parallel_reading, "PART_BYTES", 1_500)
    monkeypatch.setattr(row_parts, "PART_BYTES", 3_000)
    monkeypatch.setattr(near_duplicate_stages, "BANDS_PER_TASK", 9)
    monkeypatch.setattr(near_duplicate_stages, "TEXTS_PER_TASK", 3)
    monkeypatch.setattr(task_runner, "_run_in_processes", in_turn)
    return n_tasks


def test_the_bytes_are_those_of_one_process(tmp_path: Path, small_parts: Counter[str]) -> None:
    paths = (str(write_inputs(tmp_path / "in")),)
    held = tmp_path / "held.txt"
    held.write_text("A text that is held out. " * 30)
    config = TextConfig(paths=paths, validation_paths=(str(held),), cleaning=STEPS)  # type: ignore[arg-type]
    one = prepare_corpus(config, tmp_path / "one")
    two = prepare_corpus(config.replace(workers=2), tmp_path / "two")
    assert small_parts["read"] > 5
    assert min(small_parts[kind] for kind in ("clean", "signatures", "buckets", "clusters")) > 1
    assert corpus_bytes(one) == corpus_bytes(two)
    assert not parts_folder(two).exists()


def test_what_is_finished_is_not_done_again(
    tmp_path: Path, small_parts: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_inputs(tmp_path / "in")
    config = TextConfig(paths=(str(folder),), cleaning=STEPS, workers=2)  # type: ignore[arg-type]
    clean_part, calls = parallel_cleaning.clean_part, []

    def fails(*values: object) -> None:
        calls.append(values)
        if len(calls) == 2:
            raise KeyboardInterrupt
        clean_part(*values)  # type: ignore[arg-type]

    monkeypatch.setattr(parallel_cleaning, "clean_part", fails)
    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(config, tmp_path / "two")
    read_before, cleaned_before = small_parts["read"], small_parts["clean"]
    prepare_corpus(config, tmp_path / "two")
    assert small_parts["read"] == read_before
    assert small_parts["clean"] - cleaned_before == len(calls) - 2
    assert corpus_bytes(tmp_path / "two") == corpus_bytes(prepare_corpus(config, tmp_path / "again"))
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(config, tmp_path / "three")
    (folder / "000.txt").write_text("another text, so that all is read again " * 9)
    small_parts.clear()
    prepare_corpus(config, tmp_path / "three")
    assert small_parts["read"] == read_before


def test_an_unreadable_named_file_is_the_error_of_one_process(
    tmp_path: Path, small_parts: Counter[str]
) -> None:
    folder = write_inputs(tmp_path / "in")
    paths = (str(folder), str(folder / "picture.png"))
    errors = []
    for workers in (1, 2):
        with pytest.raises(UserError) as raised:
            prepare_corpus(TextConfig(paths=paths, workers=workers), tmp_path / "out")
        errors.append((raised.value.message, raised.value.hint))
    assert errors[0] == errors[1]


def test_reports_of_parts_add_up() -> None:
    one, other, whole = ReadReport(), ReadReport(), ReadReport()
    for i, report in enumerate((one, other)):
        for each in (report, whole):
            each.files += 2 + i
            each.skip(f"{i}.png", "binary", "detail")
            each.count_bad_bytes("a.txt", 3)
            each.count_encoding(f"{i}.txt", "cp1252", guessed=True)
            each.count_broken_row("rows", 7 + i, f"why {i}")
            each.ignore(["key", f"key{i}"])
            each.count_long_line(9)
    one.merge(ReadReport.from_json(json.loads(json.dumps(other.to_json()))))
    assert one.to_dict() == whole.to_dict()
    assert one.broken_files["rows"] == BrokenRows(2, [7, 8], "why 0")


@pytest.mark.long
def test_a_run_that_is_killed_at_random_times_has_the_same_bytes(tmp_path: Path) -> None:
    paths = (str(write_inputs(tmp_path / "in", 400)),)
    expected = corpus_bytes(prepare_corpus(TextConfig(paths=paths, cleaning=STEPS), tmp_path / "one"))  # type: ignore[arg-type]
    command = [
        *(sys.executable, "-m", "parakit.cli.main", "text", *paths, "--workers", "2"),
        *("--output", str(tmp_path / "two"), "--clean", *STEPS),
    ]
    rng = random.Random(0)
    n_killed = 0
    for _ in range(20):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.5, 6))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        n_killed += 1
    if not (tmp_path / "two").exists():
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert n_killed
    expected.pop("config")  # the command line names the primer there
    assert expected.items() <= corpus_bytes(tmp_path / "two").items()
    assert not parts_folder(tmp_path / "two").exists()


@pytest.mark.long
def test_ray_gives_the_bytes_of_one_process(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    pytest.importorskip("datatrove")
    paths = (str(write_inputs(tmp_path / "in")),)
    config = TextConfig(paths=paths, cleaning=STEPS)  # type: ignore[arg-type]
    one = prepare_corpus(config, tmp_path / "one")
    two = prepare_corpus(config.replace(workers=2, executor="ray"), tmp_path / "two")
    assert corpus_bytes(one) == corpus_bytes(two)


def test_a_plan_counts_tasks_and_scales_a_sample(tmp_path: Path, small_parts: Counter[str]) -> None:
    folder = write_inputs(tmp_path / "in")
    config = TextConfig(paths=(str(folder),), cleaning=("repair_text", "near_duplicates"), workers=2)  # type: ignore[arg-type]
    plan = plan_corpus(config)
    prepare_corpus(config, tmp_path / "two")
    report = read_json(tmp_path / "two" / "report.json")
    assert plan["tasks"]["read"] == small_parts["read"]
    assert 0.5 < plan["tasks"]["each step"] / small_parts["signatures"] < 2
    assert 0.5 < plan["text_bytes"] / report["bytes"] < 2
    assert plan["bytes"] >= plan["largest_file_bytes"] > 0
    assert all(plan["memory_bytes"][name] > 2**20 for name in ("task", "first_process"))
    assert plan["disk_bytes"] > report["bytes"]
