"""Tiny inputs of every training command, made once in a folder, and the commands."""

from __future__ import annotations

import json
from pathlib import Path

from parakit.checkpoints.adapters import save_adapter
from parakit.checkpoints.loading import load_model
from parakit.cli.main import main
from parakit.common.artifacts import Lineage
from parakit.common.seeds import rng
from parakit.model.adapters import LoraConfig, attach, make_lora
from tests.alignment.tiny_chat_model import chat_model_folder

WORDS = [a + b for a in ("ba", "de", "ki", "lo", "mu", "pa") for b in ("ra", "ne", "si", "to")]
_COMMON = ["--compile", "off", "--device", "cpu"]
COMMANDS = {
    "pretrain": [
        *("pretrain", "{shards}", "--tokenizer", "{model}", "--size", "20k", "--max-seq-len", "16"),
        *(
            "--batch-tokens",
            "64",
            "--max-steps",
            "12",
            "--save-every",
            "3",
            "--validate-every",
            "4",
            *_COMMON,
        ),
    ],
    "finetune": [
        *("finetune", "{model}", "--conversations", "{chats}", "--batch-tokens", "512"),
        *("--max-steps", "8", "--save-every", "2", "--n-compared-prompts", "1", "--max-compared-tokens", "2"),
        *_COMMON,
    ],
    "finetune lora": [
        *("finetune", "{model}", "--conversations", "{chats}", "--batch-tokens", "512", "--method", "lora"),
        *("--max-steps", "8", "--save-every", "2", "--before-after", "losses", *_COMMON),
    ],
    "dpo": [
        *("align", "{model}", "--method", "dpo", "--preferences", "{pairs}", "--batch-examples", "4"),
        *("--max-steps", "6", "--save-every", "2", "--before-after", "none", *_COMMON),
    ],
    "distill": [
        *("distill", "{model}", "--conversations", "{chats}", "--keep-layers", "1", "--batch-tokens", "512"),
        *("--max-steps", "8", "--save-every", "3", *_COMMON),
    ],
    "grpo": [
        *("align", "{model}", "--method", "grpo", "--prompts", "{chats}", "--reward", "length=4"),
        *("--rollout-prompts", "2", "--group-size", "2", "--max-new-tokens", "4", "--max-steps", "4"),
        *("--save-every", "1", "--before-after", "none", *_COMMON),
    ],
}


def make_inputs(folder: Path) -> dict[str, Path]:
    """The paths that the commands name: a chat model, an adapter on it, texts, conversations and preferences as files and
    as folders, and shards.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = chat_model_folder(folder / "model")
    loaded, _ = load_model(model)
    adapter = make_lora(loaded, LoraConfig(rank=2))
    attach(loaded, adapter)
    save_adapter(loaded, adapter, model, folder / "adapter", Lineage("adapter"))
    texts = folder / "texts"
    texts.mkdir()
    for number in range(40):
        (texts / f"{number}.txt").write_text(" ".join(rng(number, "text").choice(WORDS, 80)))
    chats, pairs = [], []
    for number in range(40):
        words = [str(word) for word in rng(number, "chat").choice(WORDS, 6)]
        question, answer, worse = " ".join(words[:3]), " ".join(words[3:5]), words[5]
        prompt = [{"role": "user", "content": question}]
        chats.append({"messages": [*prompt, {"role": "assistant", "content": answer}]})
        pairs.append({"prompt": prompt, "chosen": answer, "rejected": worse})
    for name, rows in (("chats", chats), ("pairs", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    commands = [
        ["text", str(texts), "--output", str(folder / "corpus")],
        ["text", "--conversations", str(folder / "chats.jsonl"), "--output", str(folder / "conversations")],
        ["text", "--preferences", str(folder / "pairs.jsonl"), "--output", str(folder / "preferences")],
        ["tokenizer", "train", str(texts), "--vocab-size", "300", "--output", str(folder / "tokenizer")],
        ["tokenizer", "encode", str(model), str(folder / "corpus"), "--output", str(folder / "shards")],
    ]
    for command in commands:
        assert main(command) == 0, command
    paths = {path.name.removesuffix(".jsonl"): path for path in folder.iterdir()}
    return paths


def command_of(name: str, paths: dict[str, Path], output: Path) -> list[str]:
    """The arguments of a command on these inputs."""
    return [part.format(**paths) for part in COMMANDS[name]] + ["--output", str(output)]
