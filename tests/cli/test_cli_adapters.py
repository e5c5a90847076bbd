"""`parakit finetune --method ...`, what is done with its folder, and `parakit merge`."""

from __future__ import annotations

import io
import json

import pytest

from parakit.checkpoints import load_model
from parakit.cli.main import main
from parakit.common import open_artifact
from parakit.common.files import sha256_file

QUICK = ["--max-steps", "2", "--batch-tokens", "128", "--compile", "off"]


def run(capsys, *argv: object) -> tuple[int, str, str]:
    status = main([str(word) for word in argv])
    output = capsys.readouterr()
    return status, output.out, output.err


@pytest.mark.parametrize(
    "flags",
    [
        ["--method", "lora", "--rank", "2", "--lora-targets", "query", "value"],
        ["--method", "prompt", "--n-prompt-tokens", "4", "--prompt-text", "the old bird"],
        ["--method", "prefix", "--n-prompt-tokens", "4"],
    ],
    ids=lambda flags: flags[1],
)
def test_an_adapter_is_tuned_and_used_like_a_model(capsys, tiny_build, chats, tmp_path, flags):
    base = tiny_build / "pretrain"
    before = sha256_file(base / "model.safetensors")
    out = tmp_path / "tuned"
    status, printed, _ = run(
        capsys, "finetune", base, "--conversations", chats, "--output", out, *QUICK, *flags, "--json"
    )
    assert status == 0
    figures = json.loads(printed)
    assert figures["trained_parameters"] < figures["parameters"] / 5
    assert figures["plan"]["optimizer"] == "adamw"
    assert sha256_file(base / "model.safetensors") == before
    adapter = open_artifact(out, "adapter")
    assert next(parent["digest"] for parent in adapter.lineage["parents"]) == open_artifact(base).digest
    flags = ["the bird", "--max-new-tokens", "3", "--temperature", "0", "--json"]
    status, printed, _ = run(capsys, "generate", out, *flags)
    assert (status, json.loads(printed)["prompting"]) == (0, "chat")
    status, printed, _ = run(capsys, "show", out, "--json")
    assert status == 0
    assert "adapter" in json.loads(printed)["what"]
    status, printed, _ = run(capsys, "evaluate", out, "--tokens", tiny_build / "shards", "--json")
    assert status == 0
    assert json.loads(printed)["loss"]


def test_an_adapter_is_merged_from_the_command_line(capsys, tiny_build, chats, tmp_path):
    out, merged = tmp_path / "tuned", tmp_path / "merged"
    learn = ["--method", "lora", "--rank", "2", *QUICK]
    assert run(capsys, "finetune", tiny_build, "--conversations", chats, "--output", out, *learn)[0] == 0
    status, _printed, err = run(capsys, "merge", out, "--output", merged)
    assert status == 0, err
    assert "weights changed" in err
    assert open_artifact(merged, "model").lineage["config"]["chat"] is True
    assert type(load_model(merged)[0]).__name__ == "LanguageModel"
    assert run(capsys, "merge", merged, out, "--output", tmp_path / "no", "--base", "x")[0] == 2
    status, _, err = run(
        capsys, "finetune", out, "--conversations", chats, "--output", tmp_path / "x", *learn
    )
    assert status == 2
    assert "parakit merge" in err


def test_some_layers_alone_are_trained_and_a_whole_model_is_written(capsys, tiny_build, chats, tmp_path):
    out = tmp_path / "tuned"
    learn = ["--method", "layers", "--trained-layers", "-1", *QUICK]
    base = tiny_build / "pretrain"
    assert run(capsys, "finetune", base, "--conversations", chats, "--output", out, *learn)[0] == 0
    before, after = (dict(load_model(folder)[0].named_parameters()) for folder in (base, out))
    n_layers = load_model(base)[0].config.n_layers
    changed = {name for name in before if not before[name].equal(after[name])}
    assert changed
    assert all(name.startswith(f"trunk.blocks.{n_layers - 1}.") for name in changed)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--rank", "4"], "it belongs to method lora, and the method is full"),
        (["--method", "lora", "--n-prompt-tokens", "4"], "method prompt and prefix"),
        (["--method", "lora", "--momentum", "0.9"], "--momentum is set"),
        (["--method", "lora", "--lora-targets", "qery"], "did you mean 'query'"),
        (["--method", "layers"], "--trained-layers"),
        (["--method", "prefix", "--n-prompt-tokens", "31"], "leaves no tokens"),
        (["--method", "lora", "--dora", "--lora-init", "pissa"], "dora"),
    ],
)
def test_a_mistake_leaves_nothing(capsys, tiny_build, chats, tmp_path, flags, told):
    out = tmp_path / "tuned"
    arguments = ["finetune", tiny_build / "pretrain", "--conversations", chats, "--output", out]
    status, printed, err = run(capsys, *arguments, *QUICK, *flags)
    assert (status, printed) == (2, "")
    assert told in err
    assert {path.name for path in tmp_path.iterdir()} == {"chats.jsonl"}


def test_a_recipe_may_tune_by_an_adapter(capsys, text, tiny, tmp_path):
    chats = tmp_path / "chats.jsonl"
    turn = '{"messages": [{"role": "user", "content": "a bird %d"}, {"role": "assistant", "content": "a tree"}]}\n'
    chats.write_text("".join(turn % i for i in range(60)))
    recipe = [f"conversations.paths=[{chats}]", "finetune.method=lora", "finetune.rank=2"]
    recipe += ["finetune.max_steps=2", "finetune.batch_tokens=128", "questions=['what is a bird?']"]
    arguments = ["--text", text, "--builds", tmp_path / "builds", "--name", "mine", "--set", *tiny, *recipe]
    status, _, err = run(capsys, "build", *arguments)
    assert status == 0, err
    adapter = open_artifact(tmp_path / "builds" / "mine" / "finetune", "adapter")
    assert adapter.lineage["config"]["adapter"]["rank"] == 2
    assert run(capsys, "generate", tmp_path / "builds" / "mine", "a bird", "--max-new-tokens", "2")[0] == 0


def test_several_adapters_of_one_base_are_talked_to(capsys, monkeypatch, tiny_build, chats, tmp_path):
    base, names = tiny_build / "pretrain", ("one", "two")
    for number, name in enumerate(names):
        learn = ["--method", "lora", "--rank", "2", "--seed", number, *QUICK]
        assert (
            run(capsys, "finetune", base, "--conversations", chats, "--output", tmp_path / name, *learn)[0]
            == 0
        )
    monkeypatch.setattr("sys.stdin", io.StringIO("a bird\n/adapter two\n/retry\n/adapter base\n/retry\n"))
    flags = ["--temperature", "0", "--max-new-tokens", "3", "--json"]
    status, printed, err = run(
        capsys, "chat", base, "--adapters", *(tmp_path / name for name in names), *flags
    )
    assert (status, len(printed.splitlines())) == (0, 3)
    assert "* two" in err
    status, _, err = run(capsys, "chat", tmp_path / "one", "--adapters", tmp_path / "two")
    assert status == 2
    assert "this adapter was tuned on the model" in err


@pytest.mark.parametrize("verb", ["align", "distill"])
def test_an_adapter_is_refused_before_the_work_begins(capsys, tiny_build, chats, tmp_path, verb):
    out, adapter = tmp_path / "out", tmp_path / "tuned"
    learn = ["--method", "lora", "--rank", "2", *QUICK]
    arguments = ["--conversations", chats, "--output", adapter]
    assert run(capsys, "finetune", tiny_build, *arguments, *learn)[0] == 0
    data = (
        ["--method", "grpo", "--prompts", chats, "--reward", "length=3"]
        if verb == "align"
        else ["--conversations", chats]
    )
    status, _, err = run(capsys, verb, adapter, *data, "--output", out)
    assert status == 2
    assert "parakit merge" in err
    assert not out.exists()
