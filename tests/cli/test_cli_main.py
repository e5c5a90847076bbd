"""`parakit` itself: help, unknown commands, and how a command ends."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest

from parakit.cli.build import BuildConfig
from parakit.cli.main import VERBS, main, module_of
from parakit.cli.rendering.arguments import merge_repeated_flags, parse_command
from parakit.common import UserError


def raising(error: BaseException):
    def run(argv):
        raise error

    return run


def test_help_lists_every_verb(capsys):
    for argv in ([], ["--help"], ["-h"], ["help"]):
        assert main(argv) == 0
        shown = capsys.readouterr().out
        assert all(f"  {verb} " in shown for verb in VERBS)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("parakit ")


def test_every_verb_has_a_module():
    import importlib

    for verb in VERBS:
        assert callable(importlib.import_module(module_of(verb)).main)


def test_commands_of_builds_and_evaluations_read_their_flags_without_numpy_and_templates():
    modules = ", ".join(map(module_of, ("build", "evaluate", "compare", "judge")))
    code = f"import sys, {modules}; print({{'numpy', 'torch', 'jinja2'}} & sys.modules.keys())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (found.stdout.strip(), found.stderr) == ("set()", "")


@pytest.mark.parametrize(
    ("typed", "meant"), [("biuld", "build"), ("pre-train", "pretrain"), ("zzz", "--help")]
)
def test_an_unknown_command_names_the_nearest(capsys, typed, meant):
    assert main([typed]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert repr(typed) in output.err
    assert meant in output.err


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (UserError("the size is wrong", "give another"), 2, "error: the size is wrong\n  give another"),
        (KeyboardInterrupt(), 130, "stopped"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 2, "error: No space left on device\n"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "a.txt"), 2, "error: a.txt: Permission"),
        (MemoryError(), 2, "error: the memory does not suffice: no memory left\n"),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"
            ),
            2,
            "error: the memory does not suffice: [enforce fail",
        ),
    ],
)
def test_what_goes_wrong_is_told_in_a_line_with_an_exit_status(capsys, monkeypatch, error, status, told):
    import parakit.cli.show

    monkeypatch.setattr(parakit.cli.show, "main", raising(error))
    assert main(["show", "x"]) == status
    output = capsys.readouterr()
    assert output.out == ""
    assert told in output.err


def test_a_mistake_of_our_own_is_not_hidden(monkeypatch):
    import parakit.cli.show

    for error in (
        ValueError("ours"),
        OSError(errno.EBADF, "ours"),
        AssertionError("ours"),
        RuntimeError("ours"),
    ):
        monkeypatch.setattr(parakit.cli.show, "main", raising(error))
        with pytest.raises(type(error), match="ours"):
            main(["show", "x"])


def test_sigterm_unwinds_and_the_handler_is_put_back(monkeypatch, capsys):
    import parakit.cli.show

    cleaned = []

    def run(argv):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            cleaned.append(True)

    monkeypatch.setattr(parakit.cli.show, "main", run)
    before = signal.getsignal(signal.SIGTERM)
    assert main(["show", "x"]) == 143
    assert cleaned == [True]
    assert signal.getsignal(signal.SIGTERM) is before
    assert "stopped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ("--set a=1 --size 5m --set b=2", "--size 5m --set a=1 b=2"),
        ("r.yaml --set a=1 b=2 --json", "r.yaml --json --set a=1 b=2"),
        ("--text=a --text b c", "--text a b c"),
        ("--size 1m --size 2m", "--size 1m --size 2m"),
        ("--set", "--set"),
        ("", ""),
    ],
)
def test_a_flag_given_twice_keeps_all_its_values(argv, expected):
    assert merge_repeated_flags(argv.split(), ("--set", "--text")) == expected.split()


def test_the_command_runs_as_a_module():
    command = [sys.executable, "-m", "parakit.cli.main", "no-such"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no command 'no-such'" in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["show", "."]])
def test_a_reader_that_goes_away_is_no_error(tiny_build, arguments):
    command = [sys.executable, "-m", "parakit.cli.main", *arguments]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, cwd=tiny_build, check=False)
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode in (0, 1)  # rich, which draws tables, ends with 1


def test_a_help_page_shows_placeholders_choices_and_defaults_in_plain_words(capsys):
    with pytest.raises(SystemExit):
        main(["finetune", "--method", "lora", "--help"])
    page = capsys.readouterr().out
    for text in ("MODEL", "--output OUTPUT", "--method {full,lora,prompt,prefix,layers,", "--rank INT"):
        assert text in page
    assert "None" not in page
    assert "STR" not in page
    with pytest.raises(SystemExit):
        main(["show", "--help"])
    assert "--verify, --no-verify" in capsys.readouterr().out


def test_build_needs_no_arguments():
    command = parse_command(BuildConfig, [], "parakit build")
    assert command.recipe is None
    assert command.text == ()


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("build", "studio", "usage")])
def test_a_command_without_arguments_says_what_it_needs(verb, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    try:
        status = main([verb])
    except SystemExit as stopped:
        status = stopped.code
    assert status == (0 if verb in ("tokenizer", "runs") else 2)  # these list commands of their own
    printed = capsys.readouterr()
    assert printed.err.strip() or printed.out.strip()
    assert list(tmp_path.iterdir()) == []
