"""A whole build: what it makes, what a second one leaves alone, and what a change makes anew."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from parakit.common import UserError, open_artifact
from parakit.recipe import build, dry_run
from parakit.recipe import builder as building
from parakit.recipe.graph import Build

STAGES = [
    *("corpus", "tokenizer", "shards", "conversations", "conversation_shards"),
    *("pretrain", "finetune", "evaluate"),
]


def states(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder with its inode and time: a file that was written again differs."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def artifacts(folder: Path) -> dict[str, tuple[int, int]]:
    return {path: state for path, state in states(folder).items() if Path(path).parent != folder}


def ran(messages: str) -> list[str]:
    """The stages that were not skipped, from what the build said."""
    lines = [line for line in messages.splitlines() if line.startswith("[")]
    return [line[1:].split("]")[0] for line in lines if "] skipped: " not in line]


def test_a_build_makes_every_artifact_a_summary_and_a_report(primer_build):
    builds, summary = primer_build
    folder = builds / "primer"
    made = {"corpus": "corpus", "tokenizer": "tokenizer", "conversations": "conversations"}
    made |= {"shards": "shards", "conversation_shards": "shards"}
    made |= {"pretrain": "model", "finetune": "model", "evaluate": "evaluation"}
    for stage, kind in made.items():
        assert open_artifact(folder / stage, kind).lineage["result"], stage
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert "<html" in (folder / "report.html").read_text()
    assert {path.name for path in folder.iterdir()} == {
        *STAGES,
        *("build.json", "recipe.json", "summary.json", "report.html", "corpus.html", "README.md"),
    }
    assert [path.name for path in builds.iterdir()] == ["primer"]


def test_a_second_build_skips_everything_and_gives_the_same_summary(
    primer_build, primer_recipe, tmp_path, capsys
):
    builds, summary = primer_build
    shutil.copytree(builds, tmp_path / "builds")
    before = artifacts(tmp_path / "builds/primer")
    capsys.readouterr()
    again = build(primer_recipe(), tmp_path / "builds").to_dict()
    assert ran(capsys.readouterr().err) == []
    assert artifacts(tmp_path / "builds/primer") == before
    same = set(summary) - {"created", "path", "stages", "lineage"}  # these three name the copied folders
    assert {key: again[key] for key in same} == {key: summary[key] for key in same}


@pytest.mark.parametrize(
    ("change", "rebuilt"),
    [
        ({}, []),
        ({"evaluate__max_new_tokens": 3}, ["evaluate"]),
        ({"prompts": ["Another morning"], "questions": ["Who are you?"]}, ["evaluate"]),
        ({"finetune__max_steps": 4}, ["finetune", "evaluate"]),
        ({"pretrain__max_steps": 7}, ["pretrain", "finetune", "evaluate"]),
        ({"size": "70k"}, ["pretrain", "finetune", "evaluate"]),
        (
            {"conversations__primer__seed": 1},
            ["conversations", "conversation_shards", "finetune", "evaluate"],
        ),
        ({"tokenizer__vocab_size": 410}, [s for s in STAGES if s not in ("corpus", "conversations")]),
        ({"text__primer__seed": 1}, [s for s in STAGES if s != "conversations"]),
        ({"seed": 3}, ["pretrain", "finetune", "evaluate"]),
    ],
)
def test_a_changed_setting_makes_anew_only_what_depends_on_it(primer_build, primer_recipe, change, rebuilt):
    decisions = dry_run(primer_recipe(**change), primer_build[0])
    assert [d.stage.name for d in decisions] == STAGES
    assert [d.stage.name for d in decisions if d.run] == rebuilt
    assert all(d.reason for d in decisions)


def test_the_plan_of_a_dry_run_is_what_the_build_then_does(primer_build, primer_recipe, tmp_path, capsys):
    shutil.copytree(primer_build[0], tmp_path / "builds")
    recipe = primer_recipe(finetune__max_steps=2)
    planned = [d.stage.name for d in dry_run(recipe, tmp_path / "builds") if d.run]
    capsys.readouterr()
    build(recipe, tmp_path / "builds")
    assert ran(capsys.readouterr().err) == planned == ["finetune", "evaluate"]


def test_a_dry_run_writes_nothing(primer_recipe, primer_build, tmp_path):
    assert all(d.run for d in dry_run(primer_recipe(), tmp_path / "builds"))
    assert list(tmp_path.iterdir()) == []
    before = states(primer_build[0])
    dry_run(primer_recipe(size="90k"), primer_build[0])
    assert states(primer_build[0]) == before


def test_own_text_with_own_conversations(text_recipe, conversations, text, tmp_path):
    recipe = text_recipe(
        conversations__paths=[str(conversations)],
        finetune={"max_steps": 2, "batch_tokens": 128},
        evaluate__texts=[str(text / "0.txt")],
        questions=["the bird?"],
    )
    summary = build(recipe, tmp_path / "builds").to_dict()
    assert list(summary["stages"]) == [
        *("corpus", "tokenizer", "shards", "conversations", "conversation_shards"),
        *("pretrain", "finetune", "evaluate"),
    ]
    assert {(row["name"], row["model"]) for row in summary["evaluations"]} == {
        ("0.txt", "base"),
        ("0.txt", "tuned"),
    }
    assert summary["suites"] == {}
    assert summary["stages"]["finetune"]["samples"][0]["prompt"] == "the bird?"


def test_a_touched_file_is_read_again_and_nothing_behind_it_is_made_anew(text_recipe, text, tmp_path, capsys):
    build(text_recipe(), tmp_path / "builds")
    os.utime(text / "3.txt", ns=(1, 1))
    capsys.readouterr()
    build(text_recipe(), tmp_path / "builds")
    assert ran(capsys.readouterr().err) == ["corpus"]
    (text / "3.txt").write_text("the old river finds the red house again. " * 30)
    build(text_recipe(), tmp_path / "builds")
    assert ran(capsys.readouterr().err) == ["corpus", "tokenizer", "shards", "pretrain", "evaluate"]


def test_files_that_would_not_be_read_do_not_matter(text_recipe, text, tmp_path):
    recipe = text_recipe(text__exclude=["draft*"])
    build(recipe, tmp_path / "builds")
    (text / "draft.txt").write_text("no")
    (text / ".hidden.txt").write_text("no")
    (text / "picture.png").write_bytes(b"\x89PNG")
    assert not any(d.run for d in dry_run(recipe, tmp_path / "builds"))


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "stage"),
    [
        (lambda build: shutil.rmtree(build / "shards"), "shards"),
        (lambda build: flip_a_bit(build / "shards/train.bin"), "shards"),
        (lambda build: (build / "pretrain/model.safetensors").write_bytes(b""), "pretrain"),
        (lambda build: (build / "tokenizer/tokenizer.json").unlink(), "tokenizer"),
        (lambda build: (build / "corpus/manifest.json").unlink(), "corpus"),
        (lambda build: (build / "evaluate/lineage.json").write_text("{"), "evaluate"),
    ],
)
def test_a_deleted_or_damaged_folder_is_made_again(primer_build, primer_recipe, tmp_path, damage, stage):
    """Damage is noticed and mended; the dry run says it, too."""
    shutil.copytree(primer_build[0], tmp_path / "builds")
    damage(tmp_path / "builds/primer")
    first = next(d for d in dry_run(primer_recipe(), tmp_path / "builds") if d.run)
    assert first.stage.name == stage
    assert "gone" in first.reason or "not whole" in first.reason
    if stage in ("tokenizer", "shards"):
        build(primer_recipe(), tmp_path / "builds")
        assert not any(d.run for d in dry_run(primer_recipe(), tmp_path / "builds"))


def test_a_file_of_the_users_own_in_a_stage_is_not_deleted(primer_build, primer_recipe, tmp_path):
    shutil.copytree(primer_build[0], tmp_path / "builds")
    note = tmp_path / "builds/primer/pretrain/my-notes.txt"
    note.write_text("precious")
    with pytest.raises(UserError, match=r"my-notes\.txt"):
        build(primer_recipe(size="70k"), tmp_path / "builds")
    assert note.read_text() == "precious"


def test_a_folder_that_no_build_wrote_is_not_built_in(text_recipe, tmp_path):
    mine = tmp_path / "builds/mine"
    mine.mkdir(parents=True)
    (mine / "report.html").write_text("precious")
    for attempt in (build, dry_run):
        with pytest.raises(UserError, match=r"report\.html, which no build wrote"):
            attempt(text_recipe(), tmp_path / "builds")
    assert states(mine).keys() == {str(mine / "report.html")}


def test_a_state_file_that_is_damaged_says_the_way_out(text_recipe, tmp_path):
    (tmp_path / "builds/mine").mkdir(parents=True)
    for content in ("{", "{}", "[]", '{"stages": {"corpus": 1}}'):
        (tmp_path / "builds/mine/build.json").write_text(content)
        with pytest.raises(UserError, match=r"build\.json") as error:
            build(text_recipe(), tmp_path / "builds")
        assert "delete it" in error.value.hint


def test_two_builds_at_once_are_refused_and_a_dead_ones_lock_is_not(text_recipe, tmp_path, monkeypatch):
    builds = tmp_path / "builds"
    whole_run = Build.run

    def run_beside_another(self, *given):
        with pytest.raises(UserError, match=f"process {os.getpid()} is already building here"):
            build(text_recipe(), builds)
        whole_run(self, *given)

    monkeypatch.setattr(building.Build, "run", run_beside_another)
    build(text_recipe(), builds)
    monkeypatch.setattr(building.Build, "run", whole_run)
    (builds / "mine/.lock").write_text("1")  # process 1 lives, and holds nothing
    build(text_recipe(), builds)
    assert not (builds / "mine/.lock").exists()


def test_what_a_kill_left_half_written_is_swept(text_recipe, tmp_path):
    mine = tmp_path / "builds/mine"
    left = mine / ".corpus.a1b2c3d4.partial"
    left.mkdir(parents=True)
    (left / "train.jsonl").write_text("{}")
    (mine / ".summary.json.a1b2c3d4.partial").write_text("{")
    (mine / ".my-own.txt").write_text("kept")
    build(text_recipe(), tmp_path / "builds")
    assert [path.name for path in sorted(mine.iterdir()) if path.name.startswith(".")] == [".my-own.txt"]


def test_the_package_exports_are_lazy_and_build_is_the_function():
    import subprocess
    import sys

    code = (
        "import sys, parakit.recipe as r; assert 'torch' not in sys.modules, 'torch'\n"
        "from parakit.recipe import build, RecipeConfig; assert callable(build)\n"
        "assert 'torch' not in sys.modules\n"
        "assert set(r.__all__) == set(dir(r))\n"
        "import parakit.recipe.builder; from parakit.recipe import build; assert callable(build)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
