"""How far a merged model is from its base with the adapter: the largest difference of their logits on some prompts.

The weights are compared as they are written, rounded to their dtype, and computed with in float32: what a later program
rounds in its own sums is not the merge's doing. In float32 the two differ by the order of sums only (1e-5 to 1e-4 at
logits of some tens), so 1e-3 is a mistake. bfloat16 keeps 8 bits: each weight moves by up to 0.2 %, and logits by some
tenths, as they do when a model is stored in bfloat16 without a merge; beyond 1 a likely token's probability may change by
a factor of e. float16 keeps 11 bits, an eighth of that error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Message
from parakit.evaluation.general_text import general_texts
from parakit.inference.generation.text import prompt_ids
from parakit.model.heads import LanguageModel, TransformerModel
from parakit.tokens.tokenizer.tokenizer import Tokenizer

MAX_LOGIT_DIFFERENCE = {"float32": 1e-3, "float16": 0.125, "bfloat16": 1.0}
MAX_PROMPTS, MAX_PROMPT_TOKENS = 32, 64  # their logits are held in memory, (tokens, vocab_size) each
BUILT_IN_CHARS = 200


@dataclass(frozen=True)
class LogitDifference:
    """`largest` over all positions of `n_prompts` prompts, the prompt where it is, and what it may be."""

    largest: float
    prompt: str
    n_prompts: int
    limit: float


def merge_prompts(texts: Sequence[str], file: str | None) -> tuple[str, ...]:
    """The prompts given, those of a file (one a line), or the beginnings of the built-in general texts."""
    found = [*texts]
    if file is not None:
        found += [line.strip() for line in read_text(file).splitlines() if line.strip()]
        if not found:
            raise UserError(f"{file}: has no prompts", "write one prompt a line")
    if len(found) > MAX_PROMPTS:
        raise UserError(f"{len(found)} prompts to compare logits on", f"give {MAX_PROMPTS} at most")
    return tuple(found) or tuple(text[:BUILT_IN_CHARS] for text in general_texts().values())


def read_text(file: str) -> str:
    """The content of a text file; `UserError` where there is none, or it is not UTF-8."""
    path = Path(file)
    if not path.is_file():
        raise UserError(f"{file}: no such file", "name a text file")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{file}: is not UTF-8 text", "name a text file in UTF-8") from None


@torch.inference_mode()
def prompt_logits(
    model: TransformerModel, tokenizer: Tokenizer | None, prompts: Sequence[str], chat: bool
) -> list[Tensor] | None:
    """The logits (T, vocab_size) of every prompt, as a message to a chat model. None for a model that predicts no next
    tokens, or one without a tokenizer.
    """
    if not isinstance(model, LanguageModel) or tokenizer is None:
        return None
    device = next(model.parameters()).device
    logits = []
    for prompt in prompts:
        request = [Message("user", prompt)] if chat and tokenizer.chat_template else prompt
        limit = min(MAX_PROMPT_TOKENS, model.config.max_seq_len)
        ids = prompt_ids(tokenizer, request)[-limit:]
        logits.append(model(torch.tensor([ids], device=device))[0].float())
    return logits


def largest_difference(
    before: Sequence[Tensor], after: Sequence[Tensor], prompts: Sequence[str], limit: float
) -> LogitDifference:
    """The prompt whose logits differ most."""
    differences = [float((one - other).abs().max()) for one, other in zip(before, after, strict=True)]
    worst = max(range(len(differences)), key=differences.__getitem__)
    return LogitDifference(differences[worst], prompts[worst], len(prompts), limit)


def check_difference(found: LogitDifference, dtype: str, where: str | Path) -> None:
    """`UserError` for a difference over the limit, or one that is no number."""
    if not found.largest <= found.limit:
        raise UserError(
            f"{where}: merged in {dtype}, logits after {found.prompt[:60]!r} differ by {found.largest:.3g} from those of"
            f" base and adapter (limit {found.limit:g})",
            "write float32 (--dtype float32), keep base and adapter separate (in a recipe `merge: false`), or accept it:"
            " parakit merge --max-logit-difference",
        )
