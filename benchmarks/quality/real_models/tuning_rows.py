"""Rows of `real_models` that train: fine-tuning, alignment, distillation and continued pre-training, and the merge."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.quality.real_models import peers
from benchmarks.quality.real_models.data import write_lines
from benchmarks.quality.real_models.session import NO_RATE, Session, compared, tensors_of
from benchmarks.registry import Figures

FULL_RATE, LORA_RATE, ALIGN_RATE, CLASSIFY_RATE = 2e-5, 2e-4, 5e-6, 1e-4
SEQ_LEN, N_ROWS = 128, 2  # of the book
STUDENT_LAYERS = tuple(layer for layer in range(30) if layer not in (9, 16, 22))
RL: dict[str, Any] = {
    "group_size": 2,
    "rollout_prompts": 2,
    "minibatches": 1,
    "max_new_tokens": 12,
    "kl_coef": 0.04,
}
RL_EPOCHS, RL_RATE = 3, 5e-6


def _chats(session: Session) -> tuple[list[str | Path], list[Any]]:
    """The words that make one row of all conversations, and those as transformers encodes them."""
    folder, rows = session.conversations()
    encoded = peers.chat_ids(peers.load_tokenizer(session.model("smollm2")), rows)
    length = sum(len(ids) - 1 for ids, _ in encoded)
    return ["--conversations", folder, "--seq-len", str(length), "--batch-tokens", str(length)], encoded


def finetune_full(session: Session) -> Figures:
    """All weights on conversations."""
    model = session.model("smollm2")
    words, rows = _chats(session)
    found = session.train("finetune", model, *words, learning_rate=FULL_RATE, output="full")
    session.remove("full")
    expected = peers.chat_losses(peers.load_peer(model).train(), rows, FULL_RATE)
    return compared(found, expected, "transformers")


def finetune_lora(session: Session) -> Figures:
    """An adapter on conversations."""
    import peft

    model = session.model("smollm2")
    words, rows = _chats(session)
    words += ["--method", "lora", "--rank", "4", "--alpha", "8"]
    session.train("finetune", model, *words, learning_rate=NO_RATE, output="lora-start")
    found = session.train("finetune", model, *words, learning_rate=LORA_RATE, output="lora")
    start = peft.PeftModel.from_pretrained(
        peers.load_peer(model), session.folder / "lora-start", is_trainable=True
    )
    return compared(found, peers.chat_losses(start.train(), rows, LORA_RATE), "peft")


def merge(session: Session) -> Figures:
    """That adapter merged; needs the row before it."""
    import peft

    model, adapter, out = session.model("smollm2"), session.folder / "lora", session.folder / "merged"
    if not adapter.exists():
        finetune_lora(session)
    session.run("merge", adapter, "--output", out, "--overwrite")
    peer = peft.PeftModel.from_pretrained(peers.load_peer(model), adapter).merge_and_unload().state_dict()
    largest = max(float((tensor - peer[name]).abs().max()) for name, tensor in tensors_of(out).items())
    session.remove("merged")
    return {"against": "peft's merge", "largest_difference_of_weights": largest}


def align_reward(session: Session) -> Figures:
    """A reward model on pairs."""
    folder, rows = session.preferences()
    words: list[str | Path] = [
        "align",
        session.model("smollm2"),
        "--method",
        "reward",
        "--preferences",
        folder,
    ]
    words += ["--batch-examples", str(len(rows)), "--reward-centering-coef", str(peers.CENTERING_COEF)]
    session.train(*words, learning_rate=NO_RATE, output="reward-start")
    found = session.train(*words, learning_rate=ALIGN_RATE, output="reward")
    start = session.folder / "reward-start"
    peer = peers.load_peer(start, "AutoModelForSequenceClassification", num_labels=1)
    expected = peers.reward_losses(peer, peers.load_tokenizer(start), rows, ALIGN_RATE)
    session.remove("reward", "reward-start")
    return compared(found, expected, "trl's formula on transformers' rewards")


def align_dpo(session: Session) -> Figures:
    """DPO on pairs."""
    folder, rows = session.preferences()
    words: list[str | Path] = ["align", session.model("smollm2"), "--method", "dpo", "--preferences", folder]
    words += ["--batch-examples", str(len(rows)), "--kl-coef", str(peers.KL_COEF)]
    found = session.train(*words, learning_rate=ALIGN_RATE, output="dpo")
    session.remove("dpo")
    expected = peers.dpo_losses(session.model("smollm2"), rows, ALIGN_RATE)
    return compared(found, expected, "trl")


def align_grpo(session: Session) -> Figures:
    """The command for one phase, and GRPO's loss on completions that are given to both sides."""
    from benchmarks.speed.peers import trl_side, tuning_side, tuning_workload
    from parakit.alignment.config import GRPOConfig

    model, (folder, rows) = session.model("smollm2"), session.conversations()
    prompts = write_lines(
        session.folder / "prompts.jsonl", [{"messages": row["messages"][:1]} for row in rows]
    )
    words: list[str | Path] = [
        "align",
        model,
        "--method",
        "grpo",
        "--prompts",
        folder,
        "--reward",
        "length=12",
        "--json",
    ]
    sizes = [f"--{name.replace('_', '-')}={value}" for name, value in RL.items()]
    out = session.folder / "grpo"
    session.run(*words, *sizes, "--max-steps", "1", "--device", "cpu", "--output", out, "--overwrite")
    session.remove("grpo")
    config = GRPOConfig(
        **RL, temperature=1.0, top_p=1.0, truncation_penalty=0.0, kl_estimator="k3", loss_norm="completion",
        ppo_epochs=RL_EPOCHS,
    )  # fmt: skip
    chat = session.folder / "chat"  # where both sides look for the policy
    if not chat.exists():
        chat.symlink_to(model, target_is_directory=True)
    policy, tokenizer = tuning_workload.policy_of(session.folder, "chat")
    rl_prompts = tuning_workload.prompts_of(session.folder, tokenizer)[: config.rollout_prompts]
    samples, ids = tuning_workload.complete(policy, tokenizer, rl_prompts, config, seed=0)
    given = {"token_ids": ids, "completions": [one.completion for one in samples]}
    (session.folder / "given.json").write_text(json.dumps(given), encoding="utf-8")
    settings = tuning_workload.SETTINGS | {
        "grpo": config.model_dump(), "grpo_rate": RL_RATE, "grpo_epochs": RL_EPOCHS, "learning_rate": RL_RATE,
    }  # fmt: skip
    tuning_workload.write_settings(session.folder, settings)
    trainer = tuning_side.grpo_trainer(session.folder, RL_EPOCHS, config, given, RL_RATE)[0]
    found = [record.loss for record in trainer.steps()]
    expected = trl_side.main("given", session.folder)["losses"]
    prompts.unlink()
    return compared(found, expected, "trl, on given completions")


def distill(session: Session) -> Figures:
    """A student of all but three of the teacher's layers, made by transformers: its logits are of the size of a trained
    model's, so that losses of both sides differ by rounding only.
    """
    model, student = session.model("smollm2"), session.folder / "student"
    words, rows = _chats(session)
    teacher = peers.load_peer(model)
    small = peers.load_peer(model, num_hidden_layers=len(STUDENT_LAYERS))
    for new, old in enumerate(STUDENT_LAYERS):
        small.model.layers[new].load_state_dict(teacher.model.layers[old].state_dict())
    shutil.rmtree(student, ignore_errors=True)
    small.save_pretrained(student)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(model / file, student / file)
    words += ["--student", student, "--hard-label-share", str(peers.HARD_LABEL_SHARE)]
    found = session.train("distill", model, *words, learning_rate=FULL_RATE, output="distilled")
    expected = peers.distillation_losses(small.train(), teacher, rows, FULL_RATE)
    session.remove("student", "distilled")
    return compared(found, expected, "KL in float64 on transformers' logits")


def pretrain(session: Session) -> Figures:
    """Continued pre-training on a book."""
    from parakit.tokens.batches.source import BatchSource
    from parakit.tokens.shards import TokenShards

    model, shards = session.model("smollm2"), session.book()
    sizes = ["--seq-len", str(SEQ_LEN), "--batch-tokens", str(SEQ_LEN * N_ROWS)]
    found = session.train(
        "pretrain", shards, "--model", model, *sizes, learning_rate=FULL_RATE, output="book"
    )
    session.remove("book")
    source = BatchSource(TokenShards.open(shards, "train"), SEQ_LEN, 0)
    expected = peers.packed_losses(
        peers.load_peer(model).train(), lambda step: source.rows(step * N_ROWS, N_ROWS), FULL_RATE
    )
    return compared(found, expected, "transformers")


def finetune_classifier(session: Session) -> Figures:
    """MiniLM with a new head on eight labels of SST-2."""
    texts = [
        "a fine film",
        "a dull film",
        "great fun",
        "no fun at all",
        "it moves me",
        "it bores me",
        "I laughed",
        "I slept",
    ]
    rows = [{"text": text, "label": label} for text, label in zip(texts, ["good", "bad"] * 4, strict=True)]
    train = write_lines(session.folder / "labels.jsonl", rows)
    held = write_lines(
        session.folder / "labels-held.jsonl",
        [{"text": f"{row['text']} today", "label": row["label"]} for row in rows[:4]],
    )
    words: list[str | Path] = ["finetune", session.model("minilm"), "--task", "classify", "--examples", train]
    words += ["--validation-examples", held, "--batch-examples", str(len(rows)), "--dropout", "0"]
    session.train(*words, learning_rate=NO_RATE, output="classifier-start")
    found = session.train(*words, learning_rate=CLASSIFY_RATE, output="classifier")
    start = session.folder / "classifier-start"
    peer = peers.load_peer(start, "AutoModelForSequenceClassification")
    labels = [peer.config.label2id[row["label"]] for row in rows]
    tokenizer = peers.load_tokenizer(start)
    expected = peers.classification_losses(peer, tokenizer, texts, labels, CLASSIFY_RATE)
    session.remove("classifier", "classifier-start")
    return compared(found, expected, "transformers")


TUNING_ROWS: dict[str, Callable[[Session], Figures]] = {
    one.__name__: one
    for one in (
        finetune_full, finetune_lora, merge, align_reward, align_dpo, align_grpo, distill, pretrain, finetune_classifier
    )
}  # fmt: skip
