"""The folders that are attacked: one of each kind, tiny and valid, made by Parakit in some seconds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

SHAPE: dict[str, Any] = {
    "d_model": 16,
    "n_layers": 2,
    "n_heads": 2,
    "head_dim": 8,
    "d_ff": 24,
    "max_seq_len": 96,
}
SENTENCES = [f"The small bird number {i} sings near the old tree by the river." for i in range(60)]
_KINDS = {
    "conversations": ["--conversations"],
    "preferences": ["--preferences"],
    "examples": ["--task", "classify"],
}
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_samples(root: Path) -> dict[str, Path]:
    """Name -> folder. Those called `published_...` have neither lineage nor manifest."""
    root.mkdir(parents=True, exist_ok=True)
    made = _data(root)
    tokenizer = _tokenizer(root, made["corpus"])
    made["tokenizer"] = root / "tokenizer"
    made |= _models(root, tokenizer)
    made["adapter"] = _adapter(root, made["decoder"])
    made |= _published(root, made)
    made["build"] = _build(root, made)
    return made


def _data(root: Path) -> dict[str, Path]:
    from parakit.cli.main import main

    text = root / "text"
    text.mkdir()
    for i in range(12):
        (text / f"{i}.txt").write_text("\n\n".join(SENTENCES[5 * i : 5 * i + 5]))
    turns = [
        [{"role": "user", "content": s}, {"role": "assistant", "content": s[::-1]}] for s in SENTENCES[:40]
    ]
    rows = {
        "conversations": [{"messages": turn} for turn in turns],
        "preferences": [{"prompt": s, "chosen": s + " Yes.", "rejected": "No."} for s in SENTENCES[:40]],
        "examples": [{"text": s, "label": "ab"[i % 2]} for i, s in enumerate(SENTENCES[:40])],
    }
    assert main(["text", str(text), "--output", str(root / "corpus")]) == 0
    made = {"corpus": root / "corpus"}
    for name, values in rows.items():
        file = root / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in values))
        assert main(["text", str(file), "--output", str(root / name), *_KINDS[name]]) == 0
        made[name] = root / name
    return made


def _tokenizer(root: Path, corpus: Path) -> Any:
    from parakit.common import Lineage, writing_artifact
    from parakit.tokens import TokenizerConfig, train_tokenizer

    tokenizer = train_tokenizer(iter(SENTENCES), TokenizerConfig(vocab_size=320))
    with writing_artifact(root / "tokenizer", Lineage("tokenizer", {"kind": "byte_bpe"}, [corpus])) as folder:
        tokenizer.save(folder)
    return tokenizer


def _models(root: Path, tokenizer: Any) -> dict[str, Path]:
    import torch

    from parakit.checkpoints import save_model
    from parakit.common import Lineage
    from parakit.data.corpus import iter_corpus
    from parakit.model.config import ClassifierConfig, DecoderConfig, EmbedderConfig, EncoderConfig
    from parakit.model.heads import Classifier, Embedder, LanguageModel, MaskedLanguageModel
    from parakit.tokens import write_shards

    torch.manual_seed(0)
    corpus = root / "corpus"
    write_shards(
        {"train": iter_corpus(corpus, "train")}, tokenizer, root / "shards", [corpus, root / "tokenizer"]
    )
    size = SHAPE | {"vocab_size": tokenizer.vocab_size}
    decoder = LanguageModel(DecoderConfig(**size, n_kv_heads=1))
    encoder = EncoderConfig(**size, n_kv_heads=2)
    labels = ClassifierConfig(labels=("a", "b"))
    models = {
        "decoder": decoder,
        "masked": MaskedLanguageModel(encoder),
        "classifier": Classifier(encoder, labels),
        "embedder": Embedder(encoder, EmbedderConfig(pooling="mean")),
    }
    result = {"bits_per_byte": 1.25, "samples": [{"prompt": "The", "completion": " bird"}]}
    for name, model in models.items():
        made = Lineage("model", {"stage": "pretrain", "chat": False}, [root / "shards"], 7, result)
        save_model(model, tokenizer, root / name, made, card="# card\n")
    return {name: root / name for name in ("shards", *models)}


def _adapter(root: Path, base: Path) -> Path:
    from parakit.checkpoints import load_model
    from parakit.checkpoints.adapters.folder import save_adapter
    from parakit.common import Lineage
    from parakit.model.adapters import LoraConfig, make_lora

    model, _ = load_model(base)
    adapter = make_lora(model, LoraConfig(rank=2))
    return save_adapter(
        model, adapter, base, root / "adapter", Lineage("adapter", {"stage": "finetune"}, [base])
    )


def _published(root: Path, made: dict[str, Path]) -> dict[str, Path]:
    """Copies as a stranger's folders look: no lineage, no manifest, nothing of Parakit's in the settings."""
    found = {}
    for name in ("decoder", "masked", "embedder", "adapter"):
        folder = root / f"published_{name}"
        shutil.copytree(made[name], folder)
        for file in ("lineage.json", "manifest.json"):
            (folder / file).unlink()
        found[folder.name] = folder
        config = folder / "tokenizer_config.json"
        if config.is_file():
            settings = json.loads(config.read_text())
            settings.pop("parakit_kind")
            config.write_text(json.dumps(settings))
    (found["published_decoder"] / "chat_template.jinja").write_text(CHATML)
    (found["published_decoder"] / "generation_config.json").write_text(
        json.dumps(
            {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "eos_token_id": [1, 2], "max_new_tokens": 8}
        )
    )
    return found


def _build(root: Path, made: dict[str, Path]) -> Path:
    build = root / "build"
    for name in ("corpus", "tokenizer", "shards", "decoder"):
        shutil.copytree(made[name], build / name)
    return build
