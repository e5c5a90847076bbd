"""A recipe with an index: one build makes the index, the conversations, the tuned model and its measured answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parakit.assistants.retrieval.search import DocumentIndex
from parakit.cli.main import main
from parakit.common.errors import UserError
from parakit.data.conversations.sets import iter_conversations
from parakit.planning.machines import find_machine
from parakit.recipe import build, dry_run
from parakit.recipe.builder import load_recipe
from parakit.recipe.config import RecipeConfig
from parakit.recipe.planning import plan_recipe
from parakit.recipe.start_plan import time_of

N_PASSAGES = 2  # of an answer, as the recipe says
STAGES = ["start", "index", "conversations", "conversation_shards", "finetune", "answers", "evaluate"]


def write_towns(folder: Path, n: int) -> Path:
    folder.mkdir()
    for i in range(n):
        text = (
            f"# Arlenton{i}\n\nArlenton{i} was founded in {1300 + i}. The mayor of Arlenton{i} has {20 + i} bridges"
            f" to keep. The station of Arlenton{i} was built by Maria Holm{i}.\n"
        )
        (folder / f"{i}.md").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def towns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_towns(tmp_path_factory.mktemp("documents") / "towns", 24)


def recipe(towns: Path, model: Path, **overrides: object):
    tiny = {
        "name": "towns",
        "start": str(model),
        "index.paths": [str(towns)],
        "index.encoder": "none",
        "index.n_questions": 12,
        "conversations.from_index.max_questions": 12,
        "finetune.epochs": None,
        "finetune.max_steps": 1,
        "finetune.before_after": "none",
        "evaluate.max_new_tokens": 3,
    }
    changed = {key.replace("__", "."): value for key, value in overrides.items()}
    return load_recipe("recipes/documents-assistant.yaml", tiny | changed)


@pytest.fixture(scope="module")
def made(towns: Path, published_wide: Path, tmp_path_factory: pytest.TempPathFactory):
    """The folder of builds, not to be changed, and the summary."""
    builds = tmp_path_factory.mktemp("assistant") / "builds"
    return builds, build(recipe(towns, published_wide), builds).to_dict()


def test_a_build_makes_the_index_the_tuned_model_and_its_answers(made):
    builds, summary = made
    assert list(summary["stages"]) == STAGES
    index = DocumentIndex(builds / "towns" / "index")
    assert index.n_passages == N_PASSAGES
    assert index.threshold == summary["stages"]["index"]["threshold"]
    answers = summary["stages"]["answers"]
    assert list(answers["answers"]) == ["start", "tuned"]
    figures = answers["answers"]["tuned"]
    n = figures["n_questions"]
    assert 0 < n == figures["refused_unanswerable"]["n"] <= 12
    assert figures["citations_in_their_passage"] == figures["n_citations"]
    rows = (builds / "towns" / "answers" / "tuned.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 2 * n


def test_no_measured_question_is_trained_on(made):
    folder = made[0] / "towns"
    rows = (folder / "answers" / "tuned.jsonl").read_text(encoding="utf-8").splitlines()
    measured = {json.loads(row)["question"] for row in rows}
    trained = [one.messages[0].content for one in iter_conversations(folder / "conversations", "train")]
    assert trained
    assert all(one.count("\n\n[") == N_PASSAGES for one in trained)  # passages, as many as an answer has
    assert not any(f"Question: {question}" in one for one in trained for question in measured)


def test_the_report_has_retrieval_answers_and_refusals(made):
    page = (made[0] / "towns" / "report.html").read_text(encoding="utf-8")
    for words in (
        "Answers from documents",
        "nDCG@10",
        "closed-book",
        "refused below",
        "its documents left out",
    ):
        assert words in page
    assert "parakit ask" in page


def test_a_second_build_skips_everything_and_another_question_count_measures_again(
    made, towns, published_wide
):
    builds, _ = made
    assert not any(one.run for one in dry_run(recipe(towns, published_wide), builds))
    other = dry_run(recipe(towns, published_wide, conversations__from_index__wordings=1), builds)
    assert [one.stage.name for one in other if one.run] == STAGES[2:]


def test_a_build_answers_by_its_own_index(made, towns, capsys):
    folder = made[0] / "towns"
    flags = ["--max-new-tokens", "3", "--threshold", "0", "--json", "--device", "cpu"]
    assert main(["ask", str(folder), "When was Arlenton3 founded?", *flags]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert len(alone["passages"]) == N_PASSAGES
    assert alone["passages"][0]["source"] == "towns/3.md"
    assert main(["ask", str(folder), str(folder / "index"), "When was Arlenton3 founded?", *flags]) == 0
    assert json.loads(capsys.readouterr().out) == alone
    assert main(["ask", str(folder), str(folder / "index")]) == 2
    assert "there is no question" in capsys.readouterr().err
    assert main(["ask", str(folder / "finetune"), "When?"]) == 2


def test_the_plan_has_the_index_and_the_answers(towns, published_wide):
    stages = plan_recipe(recipe(towns, published_wide), find_machine("l4"))
    assert [one.name for one in stages] == ["index", "finetune", "answers"]
    assert "passages of" in stages[0].notes[0]
    assert "conversations of" in stages[1].notes[0]
    assert "60" not in stages[2].notes[0]
    assert "12 questions" in stages[2].notes[0]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"index": None}, "no index"),
        ({"index.paths": []}, "index"),
        ({"index.paths": ["/no/such/documents"]}, "no such"),
        ({"conversations.validation_fraction": 0.1}, "from_index.validation_fraction"),
    ],
)
def test_what_does_not_fit_is_named(towns, published_wide, tmp_path, overrides, words):
    with pytest.raises(UserError, match=words):
        build(recipe(towns, published_wide, **overrides), tmp_path)


def test_a_build_is_served_with_its_index(made):
    from parakit.serving.models.locations import locate_models, with_indexes_of_builds

    folder = made[0] / "towns"
    models = locate_models([f"mine={folder}"])
    assert with_indexes_of_builds((), models) == (f"mine={folder / 'index'}",)
    assert with_indexes_of_builds((str(folder / "index"),), models) == (str(folder / "index"),)
    assert with_indexes_of_builds((str(folder),), []) == (f"towns={folder / 'index'}",)


def test_an_index_needs_a_chat_model():
    with pytest.raises(UserError, match="is for a chat model"):
        RecipeConfig.parse({"index": {"paths": ["docs"]}, "text": {"paths": ["docs"]}})


def test_the_answers_of_a_build_are_shown(made, capsys):
    assert main(["show", str(made[0] / "towns" / "answers"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["figures"]["finding"][0]["search"] == "words"
    assert shown["figures"]["answers of tuned"]["refused unanswerable"] >= 0
    assert shown["intact"]


def test_a_build_in_a_given_time_leaves_time_for_the_answers(towns, published_wide):
    timed = recipe(towns, published_wide, time="10min", finetune__max_steps=None)
    times = time_of(timed)
    assert times.share("finetune") == pytest.approx(600 * (1 - 0.14 - 0.2))
