"""Data, rewards and adapters that are not what they should be, as a user meets them: named, counted, left out or refused,
and nothing lost that was there.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parakit.cli.main import main
from parakit.common import open_artifact

QUICK = ["--max-steps", "2", "--batch-tokens", "128", "--compile", "off"]
ROLLED = ["--max-steps", "2", "--max-new-tokens", "3", "--rollout-prompts", "2", "--group-size", "4"]


def run(capsys, *argv: object) -> tuple[int, str, str]:
    status = main([str(word) for word in argv])
    output = capsys.readouterr()
    return status, output.out, output.err


@pytest.fixture
def flawed(chats: Path) -> Path:
    """The forty conversations, one that ends with a question behind them, and one with an empty answer."""
    turns = [{"role": "user", "content": "a bird"}, {"role": "assistant", "content": "a tree"}]
    rows = [[*turns, {"role": "user", "content": "and?"}], [turns[0], {"role": "assistant", "content": " "}]]
    with chats.open("a") as file:
        file.write("\n")
        file.writelines(json.dumps({"messages": row}) + "\n" for row in rows)
    return chats


@pytest.mark.parametrize("verb", ["finetune", "distill"])
def test_conversations_without_an_answer_are_counted_named_and_left_out(
    capsys, tiny_build, flawed, tmp_path, verb
):
    out = tmp_path / "out"
    kept = ["--keep-layers", "1"] if verb == "distill" else []
    status, _, err = run(capsys, verb, tiny_build, "--conversations", flawed, "--output", out, *QUICK, *kept)
    assert status == 0
    assert "conversations: 1 left out: it ends without an answer (chats.jsonl, row 42)" in err
    assert "conversations: 1 left out: an answer is empty (chats.jsonl, row 43)" in err


def test_one_in_which_nobody_answers_is_refused_and_leaves_nothing(capsys, tiny_build, chats, tmp_path):
    with chats.open("a") as file:
        file.write('{"messages": [{"role": "user", "content": "a bird"}]}\n')
    out = tmp_path / "new" / "out"
    status, _, err = run(capsys, "finetune", tiny_build, "--conversations", chats, "--output", out, *QUICK)
    assert status == 2
    assert "chats.jsonl, row 41: has no assistant turn" in err
    assert {path.name for path in tmp_path.iterdir()} == {"chats.jsonl"}


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ("1 / 0", "raised ZeroDivisionError"),
        ("float('nan')", "returned nan"),
        ("float('inf')", "returned inf"),
        ("'good'", "returned 'good'"),
        ("None", "returned None"),
    ],
)
@pytest.mark.parametrize("method", ["ppo", "grpo", "best_of_n"])
def test_a_reward_that_is_no_number_stops_the_run_by_name(
    capsys, tiny_build, chats, tmp_path, monkeypatch, returned, told, method
):
    name = "rewards_" + "".join(letter for letter in method + returned if letter.isalnum())
    source = f"def judge(messages, completion, answer):\n    return {returned}\n"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    out, flags = tmp_path / "out", ROLLED if method != "best_of_n" else ["--max-new-tokens", "3"]
    status, _, err = run(
        capsys, "align", tiny_build, "--method", method, "--prompts", chats, "--output", out,
        "--reward", f"python={name}:judge", *flags,
    )  # fmt: skip
    assert status == 2
    assert told in err
    assert "completion" in err
    assert not out.exists()


def test_an_adapter_of_another_base_is_refused_by_both_names(capsys, tiny_build, chats, tmp_path):
    base, other, adapter = tiny_build / "pretrain", tmp_path / "other", tmp_path / "adapter"
    learn = ["--conversations", chats, *QUICK]
    assert run(capsys, "finetune", base, *learn, "--output", other)[0] == 0
    assert (
        run(capsys, "finetune", base, *learn, "--output", adapter, "--method", "lora", "--rank", "2")[0] == 0
    )
    for words in (
        ["merge", adapter, "--base", other, "--output", tmp_path / "merged"],
        ["chat", other, "--adapters", adapter],
    ):
        status, _, err = run(capsys, *words)
        assert status == 2
        assert open_artifact(base).digest[:12] in err
        assert open_artifact(other).digest[:12] in err
    assert not (tmp_path / "merged").exists()
