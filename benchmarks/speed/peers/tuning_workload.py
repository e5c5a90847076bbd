"""What both sides of `against_trl` learn from: models on disk, pairs and conversations of the primer's world (one batch
that is seen again in every step, so that no order of rows can differ), and prompts to answer.

`SETTINGS` is what the peer must know; it is next to the data, and the peer imports nothing of Parakit's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from parakit.alignment.config import GRPOConfig
from parakit.alignment.rl.prompts import RLPrompt, compile_prompts
from parakit.alignment.rl.rollouts import complete
from parakit.checkpoints.loading import load_model
from parakit.checkpoints.model_folder import save_model
from parakit.common.artifacts import Lineage
from parakit.data.conversations.conversation import Conversation, read_conversations
from parakit.data.preferences import Ranking
from parakit.model.config import DecoderConfig
from parakit.model.heads import LanguageModel, RewardModel
from parakit.primer import PrimerConfig, generate_conversations, generate_preferences
from parakit.tokens.batches.source import BatchSource
from parakit.tokens.chat.template import compile_chat
from parakit.tokens.config import TokenizerConfig
from parakit.tokens.shards import TokenShards, write_shards
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.tokens.tokenizer.training import train_tokenizer
from parakit.training.config import ExampleTrainingConfig, TrainingPlan, resolve_examples
from parakit.training.objectives import next_token
from parakit.training.trainer import Trainer

MAX_SEQ_LEN, N_ROWS, N_STEPS, LEARNING_RATE = 128, 32, 12, 3e-4
DPO_KL_COEF = 0.1
CHAT_CONVERSATIONS, TALKER_STEPS = 1200, 120  # what the policy of GRPO was tuned on
GRPO = GRPOConfig(
    group_size=8, rollout_prompts=8, minibatches=1, max_new_tokens=32, temperature=1.0, top_p=1.0, truncation_penalty=0.0,
    kl_coef=0.04, kl_estimator="k3", loss_norm="completion",
)  # fmt: skip
GRPO_STEPS, GRPO_RATE, GRPO_EPOCHS = 24, 5e-4, 6  # epochs: over the completions that are given
PAIRS, CONVERSATIONS, PROMPTS, GIVEN = "pairs.jsonl", "conversations.jsonl", "prompts.jsonl", "given.json"
SETTINGS: dict[str, Any] = {
    "n_rows": N_ROWS, "max_seq_len": MAX_SEQ_LEN, "n_steps": N_STEPS, "learning_rate": LEARNING_RATE,
    "dpo_kl_coef": DPO_KL_COEF,
    "grpo_steps": GRPO_STEPS, "grpo_rate": GRPO_RATE, "grpo_epochs": GRPO_EPOCHS, "grpo": GRPO.model_dump(),
}  # fmt: skip


def make(folder: Path) -> None:
    """Write models, data and settings."""
    rankings = [one for one in islice(generate_preferences(PrimerConfig()), 200) if len(one.completions) == 2]
    rankings = rankings[:N_ROWS]
    conversations = list(islice(generate_conversations(PrimerConfig()), CHAT_CONVERSATIONS))
    texts = [message.content for one in conversations for message in one.messages]
    texts += [message.content for one in rankings for message in one.conversation(0).messages]
    tokenizer = train_tokenizer(texts, TokenizerConfig(vocab_size=512))
    for name, kind in (("lm", LanguageModel), ("rm", RewardModel)):
        save_model(_fresh(kind), tokenizer, folder / name, Lineage("model"))
    conversations = [
        one for one in conversations if len(compile_chat(tokenizer, one).token_ids) <= MAX_SEQ_LEN
    ]
    write_pairs(folder, rankings)
    _write_lines(folder / CONVERSATIONS, (one.to_row() for one in conversations[: 2 * N_ROWS]))
    first_turns = [Conversation(one.messages[:1]) for one in conversations if one.messages[0].role == "user"]
    distinct = compile_prompts(tokenizer, first_turns, MAX_SEQ_LEN - GRPO.max_new_tokens, "the primer")
    _write_lines(folder / PROMPTS, (Conversation(one.messages).to_row() for one in distinct[: 4 * N_ROWS]))
    chat_model = _chat_model(folder, tokenizer, conversations)
    save_model(chat_model, tokenizer, folder / "chat", Lineage("model"))
    prompts = prompts_of(folder, tokenizer)[: GRPO.rollout_prompts]
    samples, ids = complete(chat_model, tokenizer, prompts, GRPO, seed=0)
    given = {"token_ids": ids, "completions": [one.completion for one in samples]}
    (folder / GIVEN).write_text(json.dumps(given), encoding="utf-8")
    write_settings(folder, SETTINGS)


def write_pairs(folder: Path, rankings: Iterable[Ranking]) -> None:
    """Rankings of two, as both sides read them."""
    _write_lines(folder / PAIRS, map(_pair, rankings))


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    """What both sides have to know."""
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")


def settings_of(folder: Path) -> dict[str, Any]:
    """What was written."""
    found: dict[str, Any] = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    return found


def plan_of(
    n_rows: int, max_steps: int, learning_rate: float, max_seq_len: int = MAX_SEQ_LEN
) -> TrainingPlan:
    """AdamW at one rate for every weight, as the peer's; one optimizer batch is `n_rows`."""
    config = ExampleTrainingConfig.parse({
        "batch_examples": n_rows, "max_steps": max_steps, "optimizer": "adamw", "learning_rate": learning_rate,
        "adam_betas": (0.9, 0.999), "schedule": "constant", "warmup_steps": 0, "compile": "off", "device": "cpu",
    })  # fmt: skip
    return resolve_examples(
        config, learning_rate=1, embedding_learning_rate=1, max_seq_len=max_seq_len, n_train_examples=n_rows
    )


def packed(folder: Path, tokenizer: Tokenizer, conversations: list[Conversation]) -> BatchSource:
    """Conversations as `finetune` reads them: whole, best-fit into rows."""
    shards = write_shards({"train": conversations}, tokenizer, folder)
    return BatchSource(TokenShards.open(shards, "train"), MAX_SEQ_LEN, 0, "pack")


def prompts_of(folder: Path, tokenizer: Tokenizer) -> list[RLPrompt]:
    """The prompts, in the file's order."""
    room = MAX_SEQ_LEN - GRPO.max_new_tokens
    return compile_prompts(tokenizer, read_conversations(folder / PROMPTS), room, PROMPTS)


def policy_of(folder: Path, name: str) -> tuple[LanguageModel, Tokenizer]:
    """A language model that was made, and its tokenizer."""
    model, tokenizer = load_model(folder / name)
    assert isinstance(model, LanguageModel)
    assert tokenizer is not None
    return model, tokenizer


def _chat_model(folder: Path, tokenizer: Tokenizer, conversations: list[Conversation]) -> LanguageModel:
    """A model that answers in the primer's way, so that GRPO has a policy whose completions end."""
    model = _fresh(LanguageModel)
    source = packed(folder / "chat_shards", tokenizer, conversations)
    for _ in Trainer(model, source, next_token, plan_of(16, TALKER_STEPS, 3e-3), folder=None).steps():
        pass
    return model


def _fresh(kind: type) -> Any:
    torch.manual_seed(0)
    model = kind(
        DecoderConfig(
            vocab_size=512,
            d_model=128,
            n_layers=4,
            n_heads=4,
            n_kv_heads=4,
            head_dim=32,
            d_ff=352,
            max_seq_len=MAX_SEQ_LEN,
            tie_embeddings=True,
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
    return model


def _pair(ranking: Ranking) -> dict[str, Any]:
    row: dict[str, Any] = {"prompt": Conversation(ranking.prompt).to_row()["messages"]}
    for key, answer in zip(("chosen", "rejected"), ranking.completions, strict=True):
        row[key] = [{"role": "assistant", "content": answer}]
    return row


def _write_lines(path: Path, rows: Any) -> None:
    found: Iterator[dict[str, Any]] = iter(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
