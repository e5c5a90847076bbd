"""`parakit pretrain --model` and `--replay`, `finetune --replay`, and `--shares`: what they make and what they refuse."""

from __future__ import annotations

import json

import numpy as np
import pytest

from parakit.checkpoints.loading import load_model
from parakit.cli.main import main
from parakit.common import open_artifact
from parakit.data.conversations.sets import iter_conversations
from parakit.evaluation.perplexity import evaluate_loss
from parakit.inference.folder_settings import is_chat_tuned
from parakit.recipe.builder import check_recipe, recipe_for_text
from parakit.tokens.shards import TokenShards
from parakit.training.metrics import MetricsLog, read_metrics
from tests.cli.conftest import write_text

QUICK = ["--max-steps", "3", "--batch-tokens", "256", "--compile", "off"]


def run(capsys, *argv: object) -> tuple[int, str, str]:
    status = main([str(word) for word in argv])
    output = capsys.readouterr()
    return status, output.out, output.err


@pytest.fixture(scope="module")
def new_shards(tiny_build, tmp_path_factory):
    """Other text, encoded by the tiny build's tokenizer."""
    root = tmp_path_factory.mktemp("new")
    (write_text(root / "text") / "0.txt").write_text("The quick brown fox jumps over the lazy dog.\n\n" * 60)
    assert main(["text", str(root / "text"), "--output", str(root / "corpus")]) == 0
    encode = ["tokenizer", "encode", str(tiny_build / "tokenizer"), str(root / "corpus")]
    assert main([*encode, "--output", str(root / "shards")]) == 0
    return root / "shards"


def continue_pretraining(build, shards, out, *more) -> list:
    replay = ["--replay", build / "shards", "--replay-share", "0.5"]
    return ["pretrain", shards, "--model", build / "pretrain", *replay, "--output", out, *QUICK, *more]


def loss_on(folder, shards, seq_len=32) -> float:
    model, _ = load_model(folder)
    return evaluate_loss(model, TokenShards.open(shards, "validation"), seq_len=seq_len).objective


def test_a_model_goes_on_and_what_it_forgets_is_measured_on_both_held_out_parts(
    capsys, tiny_build, new_shards, tmp_path
):
    out, base = tmp_path / "adapted", tiny_build / "pretrain"
    before = open_artifact(base).digest
    status, printed, err = run(capsys, *continue_pretraining(tiny_build, new_shards, out), "--json")
    assert status == 0
    figures = json.loads(printed)
    assert figures["loss"] == pytest.approx(loss_on(out, new_shards), abs=1e-6)
    assert figures["earlier_loss"] == pytest.approx(loss_on(out, tiny_build / "shards"), abs=1e-6)
    assert figures["before"]["loss"] == pytest.approx(loss_on(base, new_shards), abs=1e-6)
    was = loss_on(base, tiny_build / "shards")
    assert figures["before"]["earlier_loss"] == pytest.approx(was, abs=1e-6)
    assert figures["forgetting"] == pytest.approx(figures["earlier_loss"] - was, abs=1e-6)
    assert f"forgetting {figures['forgetting']:+.3f}" in err
    assert "50% of the rows are replayed" in err
    lineage = open_artifact(out, "model").lineage
    assert lineage["result"]["forgetting"] == figures["forgetting"]
    assert lineage["config"]["replay_share"] == 0.5
    parents = {parent["digest"] for parent in lineage["parents"]}
    assert parents == {open_artifact(path).digest for path in (base, new_shards, tiny_build / "shards")}
    rows = [row for row in read_metrics(out / "training/metrics.jsonl") if row["kind"] == "validation"]
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    assert rows[0]["forgetting"] == 0
    assert rows[-1]["forgetting"] == figures["forgetting"]
    assert open_artifact(base).digest == before
    assert load_model(out)[1].digest == load_model(base)[1].digest


def test_an_interrupted_run_ends_where_one_without_a_break_does(
    capsys, tiny_build, new_shards, tmp_path, monkeypatch
):
    log = MetricsLog.write_step

    def interrupted(metrics, record, *rest):
        log(metrics, record, *rest)
        if record.step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(MetricsLog, "write_step", interrupted)
    command = [*continue_pretraining(tiny_build, new_shards, tmp_path / "a"), "--save-every", "1"]
    assert run(capsys, *command)[0] == 130
    monkeypatch.setattr(MetricsLog, "write_step", log)
    status, _, err = run(capsys, *command)
    assert status == 0
    assert "resuming after step 1 of 3" in err
    whole = [*continue_pretraining(tiny_build, new_shards, tmp_path / "b"), "--save-every", "1"]
    assert run(capsys, *whole)[0] == 0
    one, other = (tmp_path / name / "model.safetensors" for name in "ab")
    assert one.read_bytes() == other.read_bytes()
    first, second = (read_metrics(tmp_path / name / "training/metrics.jsonl") for name in "ab")
    timed = {"seconds", "tokens_per_second"}
    assert [{k: v for k, v in row.items() if k not in timed} for row in first] == [
        {k: v for k, v in row.items() if k not in timed} for row in second
    ]


def test_a_share_of_zero_measures_and_replays_nothing(capsys, tiny_build, new_shards, tmp_path):
    command = continue_pretraining(tiny_build, new_shards, tmp_path / "a", "--replay-share", "0")
    assert run(capsys, *command)[0] == 0
    alone = ["pretrain", new_shards, "--model", tiny_build / "pretrain", "--output", tmp_path / "b", *QUICK]
    status, _, err = run(capsys, *alone)
    assert status == 0
    assert "before)" in err
    one, other = (load_model(tmp_path / name)[0].state_dict() for name in "ab")
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert "forgetting" in open_artifact(tmp_path / "a").lineage["result"]
    assert "forgetting" not in open_artifact(tmp_path / "b").lineage["result"]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--replay-share", "1"], "less than 1"),
        (["--replay-share", "-0.1"], "greater than or equal to 0"),
        (["--replay-share", "nan"], "--replay-share"),
    ],
)
def test_shares_that_are_none(capsys, tiny_build, new_shards, tmp_path, flags, told):
    status, _, err = run(capsys, *continue_pretraining(tiny_build, new_shards, tmp_path / "out"), *flags)
    assert status == 2
    assert told in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--replay", "{build}/shards"], "--replay is set but has no effect: it belongs to --model"),
        (
            ["--model", "{build}/pretrain", "--replay-share", "0.5"],
            "--replay-share is set but has no effect",
        ),
        (["--model", "{build}/pretrain", "--size", "1m"], "--size is set but has no effect"),
        (["--model", "{build}/pretrain", "--tokenizer", "{build}/tokenizer"], "--tokenizer is set"),
        (["--model", "{build}/pretrain", "--family", "encoder"], "--family is set"),
        (
            ["--model", "{build}/pretrain", "--objective", "masked"],
            "'masked' does not fit the family 'decoder'",
        ),
        (["--model", "{build}/absent"], "absent"),
        (["--model", "{build}/pretrain", "--replay", "{build}/absent"], "absent"),
        (["--model", "{build}/pretrain", "--replay", "{build}/corpus"], "corpus"),
        ([], "no tokenizer was given"),
    ],
)
def test_what_does_not_fit_together_is_refused_and_leaves_nothing(
    capsys, tiny_build, new_shards, tmp_path, words, told
):
    words = [word.replace("{build}", str(tiny_build)) for word in words]
    if "--model" not in words and words:
        words += ["--tokenizer", str(tiny_build / "tokenizer"), "--size", "40k", "--max-seq-len", "32"]
    status, out, err = run(capsys, "pretrain", new_shards, *words, "--output", tmp_path / "new/out", *QUICK)
    assert (status, out) == (2, "")
    assert told in err
    assert list(tmp_path.iterdir()) == []


def test_shards_of_another_tokenizer_are_refused_with_both_digests(capsys, tiny_build, new_shards, tmp_path):
    other = tmp_path / "tokenizer"
    train = ["tokenizer", "train", tiny_build / "corpus", "--output", other, "--vocab-size", "300"]
    assert run(capsys, *train)[0] == 0
    encode = ["tokenizer", "encode", other, tiny_build / "corpus", "--output", tmp_path / "shards"]
    assert run(capsys, *encode)[0] == 0
    command = continue_pretraining(tiny_build, new_shards, tmp_path / "out", "--replay", tmp_path / "shards")
    status, _, err = run(capsys, *command)
    assert status == 2
    digests = [TokenShards.open(path, "train").tokenizer_digest for path in (new_shards, tmp_path / "shards")]
    assert all(digest[:16] in err for digest in digests)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["full", "lora"])
def test_tuning_replays_earlier_text_and_compares_with_the_base(capsys, tiny_build, chats, tmp_path, method):
    out = tmp_path / "tuned"
    words = [
        "finetune",
        tiny_build / "pretrain",
        "--conversations",
        chats,
        "--output",
        out,
        "--method",
        method,
    ]
    words += ["--replay", tiny_build / "shards", "--replay-share", "0.4", *QUICK]
    status, printed, _ = run(capsys, *words, "--json")
    assert status == 0
    figures = json.loads(printed)
    was = loss_on(tiny_build / "pretrain", tiny_build / "shards")
    assert figures["before"]["earlier_loss"] == pytest.approx(was, abs=1e-6)
    assert figures["earlier_loss"] == pytest.approx(loss_on(out, tiny_build / "shards"), abs=1e-5)
    assert figures["forgetting"] == pytest.approx(figures["earlier_loss"] - was, abs=1e-6)


def test_tuning_replays_earlier_conversations_and_sees_where_they_are_the_new_ones(
    capsys, tiny_build, chats, tmp_path
):
    folder, shards = tmp_path / "conversations", tmp_path / "shards"
    assert (
        run(capsys, "text", chats, "--conversations", "--output", folder, "--validation-fraction", "0.2")[0]
        == 0
    )
    assert run(capsys, "tokenizer", "encode", tiny_build / "pretrain", folder, "--output", shards)[0] == 0
    words = ["finetune", tiny_build / "pretrain", "--conversations", chats, "--output", tmp_path / "tuned"]
    status, printed, err = run(capsys, *words, "--replay", shards, *QUICK, "--json")
    assert status == 0
    figures = json.loads(printed)
    assert figures["replay_share"] == 0.25
    assert figures["earlier_documents_seen"] > 0  # the same file, of which another part is held out
    assert "also occur in the new data" in err


def test_a_model_that_talked_still_does_after_it_went_on(capsys, tiny_build, new_shards, chats, tmp_path):
    talker, out = tmp_path / "talker", tmp_path / "out"
    words = ["finetune", tiny_build / "pretrain", "--conversations", chats, "--output", talker, *QUICK]
    assert run(capsys, *words)[0] == 0
    assert run(capsys, "pretrain", new_shards, "--model", talker, "--output", out, *QUICK)[0] == 0
    assert is_chat_tuned(out)
    assert not is_chat_tuned(tiny_build / "pretrain")


def test_a_recipe_of_text_alone_takes_size_time_and_tokenizer_from_the_model(tiny_build, text):
    recipe = recipe_for_text([str(text)], {"pretrain.model": str(tiny_build / "pretrain")})
    check_recipe(recipe)
    assert recipe.time is None


def test_examples_are_not_replayed(capsys, tiny_build, tmp_path):
    examples = tmp_path / "examples.jsonl"
    rows = [{"text": f"a bird {i}", "label": ("no", "yes")[i % 2]} for i in range(40)]
    examples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["finetune", tiny_build / "pretrain", "--task", "classify", "--examples", examples]
    status, _, err = run(capsys, *words, "--replay", tiny_build / "shards", "--output", tmp_path / "out")
    assert status == 2
    assert "--replay is set but has no effect" in err


def conversations_file(path, name, n):
    rows = [
        [{"role": "user", "content": f"{name} {i}?"}, {"role": "assistant", "content": f"{name} is {i}."}]
        for i in range(n)
    ]
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    return path


def test_conversation_files_are_mixed_by_shares(capsys, tmp_path):
    files = [conversations_file(tmp_path / f"{name}.jsonl", name, n) for name, n in (("a", 60), ("b", 15))]
    out = tmp_path / "mixed"
    words = ["text", *files, "--conversations", "--shares", "1", "3", "--output", out]
    status, _, _ = run(capsys, *words)
    assert status == 0
    train = [conversation.messages[0].content[0] for conversation in iter_conversations(out, "train")]
    assert train.count("b") == round(0.75 * len(train))
    status, _, err = run(capsys, "text", *files, "--shares", "1", "3", "--output", tmp_path / "x")
    assert status == 2
    assert "these rows are conversations" in err


def test_tuning_takes_the_same_shares(capsys, tiny_build, tmp_path):
    files = [conversations_file(tmp_path / f"{name}.jsonl", name, n) for name, n in (("a", 60), ("b", 20))]
    words = [
        "finetune",
        tiny_build / "pretrain",
        "--output",
        tmp_path / "out",
        "--conversations",
        *files,
        *QUICK,
    ]
    status, _, err = run(capsys, *words, "--shares", "1")
    assert status == 2
    assert "1 share for 2 sources" in err
    assert run(capsys, *words, "--shares", "1", "1")[0] == 0
    folder = tmp_path / "set"
    assert run(capsys, "text", files[0], "--conversations", "--output", folder)[0] == 0
    words[words.index("--conversations") + 1 : words.index("--max-steps")] = [folder]
    status, _, err = run(capsys, *words, "--shares", "1", "--overwrite")
    assert status == 2
    assert "is mixed already" in err
