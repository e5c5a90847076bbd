"""`parakit prompts`: listed, shown, run on one input and on a table, compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parakit.cli.main import main


def output(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    assert main(["prompts", *(str(word) for word in argv)]) == 0
    return capsys.readouterr().out


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "items.csv"
    path.write_text("question,answer\nthe small bird,tree\nthe old tree,bird\n")
    return path


def test_the_library_is_listed_and_shown(capsys):
    assert "chain_of_thought" in output(capsys, "list")
    assert len(json.loads(output(capsys, "list", "--json"))) == 8
    shown = output(capsys, "show", "role", "--set", "role=a baker")
    assert "# system\nYou are a baker." in shown
    assert "# user\n[question]" in shown
    assert json.loads(output(capsys, "show", "zero_shot", "--json"))["messages"][0]["content"] == "[question]"


def test_a_prompt_is_run_on_one_input_and_on_a_table(published_wide, table, tmp_path, capsys):
    prompt = tmp_path / "short.yaml"
    prompt.write_text("template: '{{ question }}'\nsettings: {max_new_tokens: 3}\n")
    one = json.loads(
        output(
            capsys, "run", published_wide, prompt, "--set", "question=the bird", "--json", "--device", "cpu"
        )
    )
    assert one["n_new_tokens"] <= 3
    found = output(capsys, "run", published_wide, prompt, "--items", table, "--device", "cpu")
    assert "short" in found
    compared = output(
        capsys,
        *(
            "compare",
            published_wide,
            prompt,
            "role",
            "--items",
            table,
            "--set",
            "role=a bird",
            "--device",
            "cpu",
        ),
        *("--output", tmp_path / "out", "--json"),
    )
    results = json.loads(compared)
    assert set(results["prompts"]) == {"short", "role"}
    assert results["prompts"]["role"]["comparison"]["verdict"] == "cannot tell"
    assert (tmp_path / "out" / "tokens.svg").is_file()
    assert "role: 2 items detect a difference of" in (tmp_path / "out" / "report.html").read_text()


def test_replies_are_sampled(published_wide, table, tmp_path, capsys):
    prompt = tmp_path / "short.yaml"
    prompt.write_text("template: '{{ question }}'\nanswer_after: bird\nsettings: {max_new_tokens: 3}\n")
    argv = ("sample", published_wide, prompt, "--items", table, "--n-samples", "3", "--device", "cpu")
    results = json.loads(output(capsys, *argv, "--budgets", "2", "--output", tmp_path / "out", "--json"))
    assert [one["n"] for one in results["curves"]["votes"]] == [1, 2, 3]
    assert [one["n"] for one in results["curves"]["budget"]] == [2]
    assert (tmp_path / "out" / "curve.svg").is_file()
    assert "coverage" in output(capsys, *argv)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("compar",), "did you mean 'compare'"),
        (("run", "MODEL", "zero_shoot", "--items", "TABLE"), "did you mean zero_shot"),
        (("run", "MODEL", "zero_shot"), "no value for 'question'"),
        (("compare", "MODEL", "zero_shot", "--items", "TABLE"), "needs two prompts"),
        (("run", "MODEL", "few_shot", "--items", "TABLE"), "shows 4 examples, and there are none"),
        (("run", "MODEL", "zero_shot", "--items", "TABLE", "--set", "questoin=a"), "did you mean 'question'"),
    ],
)
def test_a_mistake_is_named_before_a_model_is_loaded(argv, message, table, tmp_path, capsys):
    places = {"TABLE": str(table), "MODEL": str(tmp_path)}
    assert main(["prompts", *(places.get(word, word) for word in argv)]) == 2
    assert message in capsys.readouterr().err
