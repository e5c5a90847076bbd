"""What both sides of `against_trl` learn from: a small chat model and a reward model on disk, and pairs of the primer's
world; one batch that is seen again in every step, so that no order of rows can differ.
"""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import torch

from parakit.checkpoints.model_folder import save_model
from parakit.common.artifacts import Lineage
from parakit.model.config import DecoderConfig
from parakit.model.heads import LanguageModel, RewardModel
from parakit.text.conversations import Conversation
from parakit.text.primer import PrimerConfig, preferences
from parakit.tokens.config import TokenizerConfig
from parakit.tokens.tokenizer_training import train_tokenizer

N_PAIRS, N_STEPS, LEARNING_RATE, KL_COEF, MAX_SEQ_LEN = 32, 12, 3e-4, 0.1, 128
TASKS = ("dpo", "reward")
FILE = "pairs.jsonl"


def make(folder: Path) -> None:
    """Write models and pairs."""
    rankings = [one for one in islice(preferences(PrimerConfig()), 200) if len(one.completions) == 2][
        :N_PAIRS
    ]
    texts = (message.content for one in rankings for message in one.conversation(0).messages)
    tokenizer = train_tokenizer(texts, TokenizerConfig(vocab_size=512))
    shape = DecoderConfig(
        vocab_size=512, d_model=128, n_layers=4, n_heads=4, n_kv_heads=4, head_dim=32, d_ff=352,
        max_seq_len=MAX_SEQ_LEN, tie_embeddings=True,
    )  # fmt: skip
    for name, kind in (("lm", LanguageModel), ("rm", RewardModel)):
        torch.manual_seed(0)
        model = kind(shape)
        with torch.no_grad():
            for parameter in model.parameters():
                if not parameter.any():
                    parameter.normal_(std=0.02)
        save_model(model, tokenizer, folder / name, Lineage("model"))
    with open(folder / FILE, "w", encoding="utf-8") as file:
        for one in rankings:
            row = {"prompt": Conversation(one.prompt).to_row()["messages"]}
            for key, answer in zip(("chosen", "rejected"), one.completions, strict=True):
                row[key] = [{"role": "assistant", "content": answer}]
            file.write(json.dumps(row) + "\n")
