"""A corpus made by a Slurm job array has the bytes of one made by a single process; only failed tasks are repeated.

`sbatch` is a program of the test that runs the elements of the array one after the other, as Slurm would on other machines:
in processes of their own, with SLURM_ARRAY_TASK_ID set, from the script that it is given.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from parakit.common.errors import UserError
from parakit.data.config import TextConfig
from parakit.data.corpus import parts_folder, prepare_corpus
from parakit.data.parallel import near_duplicate_stages, parallel_reading, row_parts, slurm
from parakit.data.parallel.task_runner import TaskRunner
from parakit.data.parallel.tasks import main
from tests.data.parallel.test_data_parallel import corpus_bytes, write_inputs

FAKE = """#!{python}
import json, os, pathlib, subprocess, sys
home = pathlib.Path({home!r})
arguments = [one for one in sys.argv[1:] if one.startswith("--")]
calls = home / "calls.json"
known = json.loads(calls.read_text()) if calls.exists() else []
calls.write_text(json.dumps(known + [arguments]))
if (home / "refuse").exists():
    sys.exit("sbatch: error: invalid partition specified: none")
print("Submitted batch job", len(known) + 1)
array = next(one for one in arguments if one.startswith("--array=")).partition("=")[2]
first, last = map(int, array.partition("%")[0].split("-"))
worst = 0
broken = (home / "broken").read_text().split() if (home / "broken").exists() else []
for number in range(first, last + 1):
    environment = dict(os.environ, SLURM_ARRAY_TASK_ID=str(number))
    if str(number) in broken:  # the machine fails before the task begins
        worst = 1
        continue
    worst = max(worst, subprocess.run([sys.argv[-1]], env=environment, cwd="/").returncode)
sys.exit(worst)
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a `sbatch` that is first on PATH; a file `broken` in it names elements that fail once."""
    home = tmp_path / "bin"
    home.mkdir()
    (home / "sbatch").write_text(FAKE.format(python=sys.executable, home=str(home)))
    (home / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(home), prepend=":")
    monkeypatch.setattr(slurm, "_SHARED_DISK_SECONDS", 0)
    return home


@pytest.mark.long
def test_an_array_gives_the_bytes_of_one_process_and_repeats_what_failed(
    tmp_path: Path, cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel_reading, "PART_BYTES", 6_000)
    monkeypatch.setattr(row_parts, "PART_BYTES", 9_000)
    monkeypatch.setattr(near_duplicate_stages, "BANDS_PER_TASK", 9)
    monkeypatch.setattr(slurm, "MAX_ELEMENTS", 2)
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path / "in")
    steps = ("repair_text", "near_duplicates", "personal_data")
    config = TextConfig(paths=("in",), cleaning=steps)  # type: ignore[arg-type]
    one = prepare_corpus(config, tmp_path / "one")
    options = ("partition=cpu", "--time=02:00:00")
    config = config.replace(workers=2, executor="slurm", slurm_options=options)
    (cluster / "broken").write_text("1")
    with pytest.raises(UserError, match=r"read: \d of \d tasks did not finish"):
        prepare_corpus(config, tmp_path / "two")
    (cluster / "broken").unlink()
    n_done = len(list((parts_folder(tmp_path / "two") / "read" / "done").iterdir()))
    two = prepare_corpus(config, tmp_path / "two")
    assert corpus_bytes(one) == corpus_bytes(two)
    calls = json.loads((cluster / "calls.json").read_text())
    assert all({"--wait", "--partition=cpu", "--time=02:00:00"} <= set(call) for call in calls)
    assert n_done
    assert "--array=0-1%2" in calls[0]
    assert "--array=0-0%2" in calls[1] or n_done == 1
    assert len(calls) == 2 + len(("signatures", "buckets", "clusters")) + 2


def test_a_job_that_slurm_refuses_is_an_error_with_its_reason(tmp_path: Path, cluster: Path) -> None:
    (cluster / "refuse").touch()
    runner = TaskRunner(tmp_path / "parts", 2, "slurm")
    with pytest.raises(UserError, match="invalid partition specified"):
        runner.run("read", "read", {}, 3)


def test_a_machine_without_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="needs the command sbatch"):
        TaskRunner(tmp_path / "parts", 2, "slurm").run("read", "read", {}, 3)


def test_an_element_runs_its_tasks_and_notes_why_one_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = TaskRunner(tmp_path / "parts", 1)
    with pytest.raises(UserError, match="no such file"):
        runner.run("read", "read", {}, 3)  # there is no list of files
    folder = tmp_path / "parts" / "read"
    (folder / "1.files.json").write_text("[]")
    listed = tmp_path / "tasks.txt"
    listed.write_text("0\n1 2\n")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    with pytest.raises(UserError, match="no such file"):
        main([str(folder), str(listed)])
    assert (folder / "done" / "1").exists()
    assert "2.files.json" in (folder / "failed" / "2.json").read_text()
    for number in (0, 2):
        (folder / f"{number}.files.json").write_text("[]")
    runner.run("read", "read", {}, 3)
    assert not list((folder / "failed").iterdir())
