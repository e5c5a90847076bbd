"""What the page of models stands on: trash, plans of memory, scores, commands, lineages, reports."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from parakit.checkpoints.loading import parameter_counts
from parakit.common.errors import UserError
from parakit.serving.studio.inventory.commands import (
    RunningCommand,
    export_words,
    import_words,
    output_name,
    run_command,
)
from parakit.serving.studio.inventory.finding import FoundFolder, find_folders
from parakit.serving.studio.inventory.lineage_view import drawing_json, lineage_view
from parakit.serving.studio.inventory.memory_plan import plan_memory
from parakit.serving.studio.inventory.model_facts import model_facts
from parakit.serving.studio.inventory.scores import build_figures
from parakit.serving.studio.inventory.trash import Trash
from parakit.serving.studio.report_files import report_file


def found_folder(root: Path, name: str) -> FoundFolder:
    (root / name).mkdir(parents=True)
    (root / name / "file").write_text("content")
    return FoundFolder(name, root / name, "published")


def test_what_is_deleted_can_be_put_back(tmp_path):
    trash, found = Trash(tmp_path), found_folder(tmp_path, "models/one")
    entry = trash.delete(found)
    assert not found.path.exists()
    assert [one.name for one in trash.list()] == ["models/one"]
    assert find_folders(tmp_path) == []  # the trash is hidden
    assert trash.restore(entry.id) == found.path
    assert (found.path / "file").read_text() == "content"
    assert trash.list() == []


def test_nothing_is_put_back_over_something_else(tmp_path):
    trash, found = Trash(tmp_path), found_folder(tmp_path, "one")
    entry = trash.delete(found)
    found.path.mkdir()
    with pytest.raises(UserError, match="something else"):
        trash.restore(entry.id)
    for bad in ("../..", "", entry.id + "/x"):
        with pytest.raises(UserError):
            trash.restore(bad)


def test_the_root_is_not_deleted_and_a_record_cannot_lead_out(tmp_path):
    root = tmp_path / "root"
    trash = Trash(root)
    with pytest.raises(UserError, match="own folder"):
        trash.delete(FoundFolder("root", found_folder(root, "x").path.parent, "build"))
    entry = trash.delete(FoundFolder("x", root / "x", "published"))
    record = root / ".trash" / entry.id / "deleted.json"
    record.write_text(json.dumps({"name": "../outside", "deleted": 0.0}))
    with pytest.raises(UserError, match="outside"):
        trash.restore(entry.id)


def test_the_plan_counts_parameters_and_floats_of_the_cache(studio_folder):
    folder = studio_folder / "builds" / "primer" / "pretrain"
    plan = plan_memory(str(folder))
    config = json.loads((folder / "config.json").read_text())
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    cache = 2 * config["num_key_value_heads"] * head_dim * 4 * config["num_hidden_layers"] * plan.context
    parts = dict(plan.parts)
    assert plan.n_parameters == parameter_counts(folder)["total"]
    assert parts["weights"] == 4 * plan.n_parameters
    assert parts["cache"] == cache
    assert plan.peak_bytes == sum(parts.values())
    assert plan.fits


def test_a_source_that_is_none_is_named_before_anything_is_read(tmp_path):
    for source in ("", str(tmp_path)):
        with pytest.raises(UserError):
            plan_memory(source)
    assert "downloaded" in plan_memory("org/model").note


def test_facts_of_a_model_and_of_a_folder_that_is_none(studio_folder, tmp_path):
    facts = model_facts(studio_folder / "builds" / "primer" / "finetune")
    assert (facts.family, facts.is_chat, facts.generates) == ("decoder", True, True)
    assert model_facts(tmp_path).fault
    assert "encoder" in {model_facts(path).family for path in (studio_folder / "models").iterdir()}


def test_scores_of_a_build_have_intervals_and_a_damaged_summary_has_none(studio_folder, tmp_path):
    summary = json.loads((studio_folder / "builds/primer/summary.json").read_text())
    figures = build_figures(studio_folder / "builds" / "primer")
    assert dict(figures.models) == summary["models"]
    suite, scores = figures.scores[0]
    for model, score in scores.items():
        recorded = summary["suites"][suite][model]
        assert (score.value, score.low, score.high) == (
            recorded["accuracy"],
            recorded["low"],
            recorded["high"],
        )
    (tmp_path / "summary.json").write_text('{"suites": {"a": [1]}}')
    assert build_figures(tmp_path).scores == ()


def test_the_lineage_goes_from_the_text_to_the_model(studio_folder):
    view = lineage_view(studio_folder / "builds" / "primer" / "finetune")
    drawing = drawing_json(view.drawing)
    places = {node["stage"].lower(): node["x"] for node in drawing["nodes"]}
    assert places["corpus"] < places["pretrain"] < places["finetune"]


@pytest.mark.parametrize("name", ["../x", "a/../../b", "/etc/x", "", ".hidden", "a/.b", "x\ny", "--output"])
def test_an_output_stays_below_the_folder(tmp_path, name):
    with pytest.raises(UserError):
        output_name(tmp_path, name)


def test_an_output_is_new_and_links_do_not_lead_out(tmp_path):
    assert output_name(tmp_path, "models/one") == tmp_path / "models" / "one"
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="exists"):
        output_name(tmp_path, "there")
    (tmp_path / "out").symlink_to(tmp_path.parent)
    with pytest.raises(UserError, match="leads out"):
        output_name(tmp_path, "out/x")


def test_words_of_commands():
    assert import_words("org/model", "models/m") == ("import", "org/model", "--output", "models/m")
    assert export_words(Path("m"), "x.gguf", "Q8_0")[-4:] == ("--format", "gguf", "--type", "Q8_0")
    with pytest.raises(UserError, match="no model"):
        import_words("--accept-config", "m")


def test_a_command_runs_as_a_process_and_its_lines_are_kept(tmp_path):
    command, shown = RunningCommand(("version",)), []
    work = run_command(command, tmp_path, lambda: shown.append(len(command.lines)))
    with ThreadPoolExecutor(1) as thread:  # playwright's loop runs in this one
        status = thread.submit(asyncio.run, work).result()
    assert (status, command.status) == (0, 0)
    assert command.lines[0].startswith("parakit ")
    assert shown[-1] == len(command.lines)


def test_a_report_is_looked_up_by_name_and_never_followed_out(studio_folder, tmp_path):
    assert report_file(studio_folder, "builds/primer", "report.html").is_file()
    for folder, file in (("builds/primer", "recipe.json"), ("../builds", "report.html"), ("", "report.html")):
        with pytest.raises(UserError):
            report_file(studio_folder, folder, file)
    build = tmp_path / "build"
    build.mkdir()
    (build / "build.json").write_text("{}")
    (build / "report.html").symlink_to("/etc/passwd")
    with pytest.raises(UserError):
        report_file(tmp_path, "build", "report.html")
