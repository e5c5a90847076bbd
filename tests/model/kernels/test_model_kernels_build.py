"""Kernels are compiled once, safely, and are done without where they cannot be."""

from __future__ import annotations

import multiprocessing
import os
import stat
import subprocess
import sys

import pytest
import torch

from parakit.model.kernels import (
    build,
    compile_ahead,
    library,
    load_kernels,
    load_training_kernels,
    read_bandwidth,
)

needs_compiler = pytest.mark.skipif(load_kernels() is None, reason="no C++ compiler")

# Stands for the compiler: copies a library that is compiled already, or fails.
FAKE = """#!{python}
import shutil, sys
if {fails}:
    print("inference.cpp: fatal error: no such instruction", file=sys.stderr)
    sys.exit(1)
shutil.copy({library!r}, sys.argv[sys.argv.index("-o") + 1])
"""


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """An empty cache, and nothing loaded yet."""
    monkeypatch.delenv(library.SWITCH, raising=False)
    real = {
        part: build.build_library(part) if load_kernels() is not None else "none"
        for part in ("inference", "training")
    }
    monkeypatch.setenv("PARAKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(library, "_load", library._load.__wrapped__)

    def use_compiler(fails=False, part="inference", library=None):
        path = tmp_path / "compiler"
        path.write_text(FAKE.format(python=sys.executable, fails=fails, library=str(library or real[part])))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("CXX", str(path))
        return path

    return use_compiler


@needs_compiler
def test_a_library_is_compiled_once_and_its_name_depends_on_the_compiler(fresh, tmp_path):
    fresh()
    first = build.build_library("inference")
    assert first.parent == tmp_path / "cache" / "kernels"
    written = first.stat().st_mtime_ns
    assert build.build_library("inference") == first
    assert first.stat().st_mtime_ns == written
    assert [path.name for path in first.parent.iterdir()] == [first.name]
    fresh(library="another").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(build.BuildError):
        build.build_library("inference")


@needs_compiler
def test_two_processes_at_once_both_get_a_whole_library(fresh, tmp_path):
    fresh()
    code = "from parakit.model.kernels import load_kernels; assert load_kernels() is not None"
    processes = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert len(list((tmp_path / "cache" / "kernels").iterdir())) == 1


def test_a_compiler_that_fails_is_one_line_and_pytorch_computes(fresh, capsys, tmp_path):
    fresh(fails=True)
    assert load_kernels() is None
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2
    assert "no such instruction" in lines[1]
    assert list((tmp_path / "cache" / "kernels").iterdir()) == []


def test_a_library_that_does_not_load_gets_no_name(fresh, capsys, tmp_path):
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"\x7fELF broken")
    fresh(library=broken)
    assert load_kernels() is None
    assert list((tmp_path / "cache" / "kernels").iterdir()) == []


@needs_compiler
def test_a_damaged_library_in_the_cache_is_compiled_again(fresh):
    fresh()
    path = build.build_library("inference")
    path.unlink()
    path.write_bytes(b"cut off")
    assert load_kernels() is not None


@needs_compiler
def test_a_training_step_does_not_wait_for_the_kernels_of_inference(fresh, tmp_path):
    fresh(part="training")
    loaded = load_training_kernels()
    assert loaded is not None
    assert hasattr(loaded, "parakit_attention_gradients")
    assert not hasattr(loaded, "parakit_forward")
    (made,) = (tmp_path / "cache" / "kernels").iterdir()
    assert made.name.startswith("training-")


@needs_compiler
def test_what_is_compiled_ahead_is_compiled_once_and_waited_for(fresh, tmp_path, monkeypatch):
    cores = [2]
    monkeypatch.setattr(library, "n_cores", lambda: cores[0])
    monkeypatch.setattr(library, "_compiling", {})
    path = fresh()
    slow = path.read_text().replace("import shutil, sys", "import shutil, sys, time\ntime.sleep(1)")
    path.write_text(slow)
    compile_ahead()
    compile_ahead()
    assert load_kernels() is not None
    (made,) = (tmp_path / "cache" / "kernels").iterdir()
    assert made.name.startswith("inference-")
    assert library._compiling == {}
    cores[0] = 1
    compile_ahead()
    assert library._compiling == {}  # alone it would only slow the training down


@needs_compiler
def test_a_compiler_that_fails_ahead_is_no_error(fresh, capsys, monkeypatch):
    monkeypatch.setattr(library, "n_cores", lambda: 2)
    monkeypatch.setattr(library, "_compiling", {})
    fresh(fails=True)
    compile_ahead()
    assert load_kernels() is None
    assert "no such instruction" in capsys.readouterr().err


@needs_compiler
def test_a_library_of_the_other_part_is_refused(fresh, capsys):
    fresh()
    assert load_training_kernels() is None  # this compiler gives the library of inference
    assert "the CPU kernels of training are not used" in capsys.readouterr().err


@needs_compiler
@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser can write everywhere")
def test_a_cache_that_cannot_be_written_is_replaced_by_a_temporary_folder(fresh, tmp_path):
    fresh()
    (tmp_path / "cache").mkdir(mode=0o500)
    assert build.build_library("inference").parent != tmp_path / "cache" / "kernels"


@needs_compiler
def test_a_cache_folder_that_is_a_file_is_replaced_by_a_temporary_folder(fresh, tmp_path):
    fresh()
    (tmp_path / "cache").write_text("not a folder")
    assert build.build_library("inference").is_file()


def test_the_switch_turns_them_off(monkeypatch):
    monkeypatch.setenv(library.SWITCH, "off")
    assert load_kernels() is None
    assert read_bandwidth(2**20) is None


@needs_compiler
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own():
    read_bandwidth(2**20, n_threads=2, n_runs=1)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(read_bandwidth, (2**20, 2, 1)).get(timeout=30) > 0


@needs_compiler
def test_results_do_not_depend_on_the_number_of_threads():
    from parakit.model.kernels.layout import FP32, Weight

    kernels = load_kernels()
    w, x = torch.randn(70, 50), torch.randn(3, 50)
    described = Weight(kind=FP32, n_out=70, n_in=50, data=w.data_ptr())
    results = [torch.empty(3, 70) for _ in range(4)]
    for n_threads, result in enumerate(results, 1):
        kernels.parakit_matmul(described, x.data_ptr(), 3, result.data_ptr(), n_threads)
        assert torch.equal(result, results[0])
    torch.testing.assert_close(results[0], x @ w.T)
