"""The policy that methods of alignment are compared on, and its prompts: a primer model tuned for chat, and small talk, to
which it has several answers; where it has only one, no reward could choose.
"""

from __future__ import annotations

from pathlib import Path

from parakit.alignment.rl.prompts import RLPrompt, compile_prompts
from parakit.checkpoints.loading import load_model
from parakit.data.conversations.conversation import Conversation, Message
from parakit.model.heads import LanguageModel
from parakit.primer.seeded_random import Random
from parakit.primer.skills import small_talk
from parakit.stages.rl_jobs import without_dropout
from parakit.tokens.tokenizer.tokenizer import Tokenizer

MAX_NEW_TOKENS = 40
N_DRAWN = 4000  # of small talk; repeated prompts count once
MAX_PROMPT_TOKENS = 100


def load_model_and_prompts(folder: Path, draw: str) -> tuple[LanguageModel, Tokenizer, list[RLPrompt]]:
    """The model of `folder` in float32 without dropout, its tokenizer, and prompts; `draw` names which are drawn."""
    model, tokenizer = load_model(folder, "cpu", "float32")
    assert isinstance(model, LanguageModel)
    assert tokenizer is not None
    without_dropout(model)
    random = Random(77, draw)
    prompts = [Conversation((Message("user", small_talk.draw(random)[0]),)) for _ in range(N_DRAWN)]
    return model, tokenizer, compile_prompts(tokenizer, prompts, MAX_PROMPT_TOKENS, "small talk")
