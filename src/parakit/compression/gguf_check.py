"""Whether a GGUF file holds the model that it was written from: settings, weights, tokenizer, template and logits.

The file is read again by Parakit's own reader. Settings and tokenizer must be equal, each weight as near as its
quantization allows (a permuted or swapped tensor is far off whatever the text), and the next-token distributions near
enough on real text: up to `MAX_KL` nats a token on average, the divergence from the source to the file. Each limit is
five times or more what the type costs the published 135M model (F16 2e-6, BF16 6e-5, Q8_0 0.0014, Q4_K_M 0.06, Q4_0 0.32),
which suffers more than larger ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parakit.checkpoints.config_equivalence import config_diff
from parakit.checkpoints.gguf.tensor_types import GGUFType
from parakit.common.errors import UserError
from parakit.evaluation.general_text import general_texts
from parakit.model.heads import LanguageModel
from parakit.tokens.chat.template import compile_chat, stop_ids
from parakit.tokens.importers.sample_check import SAMPLES
from parakit.tokens.tokenizer.special_tokens_template import text_boundaries
from parakit.tokens.tokenizer.tokenizer import Tokenizer

MAX_KL: dict[GGUFType, float] = {
    **{"F32": 1e-6, "F16": 1e-3, "BF16": 1e-2, "Q8_0": 1e-2},
    **{"Q4_K_M": 0.3, "Q4_0": 1.6},
}
MAX_DIFFERENCE_F32 = 1e-3  # of a logit: nothing is rounded, only summed in the same order
MAX_POSITIONS, WINDOW = 1000, 256
# of a tensor's norm; what 4 bits lose of a Gaussian is 0.1
_MAX_WEIGHT_ERROR: dict[GGUFType, float] = {
    **{"F32": 1e-5, "F16": 1e-2, "BF16": 1e-2, "Q8_0": 0.05},
    **{"Q4_K_M": 0.4, "Q4_0": 0.4},
}
_FLOAT_ERROR = 1e-6  # of a setting that is stored in float32
_HARD_TEXTS = ("", " ", "\n\n", "a  1", "don't I'LL", "x = 12345;  y=  678", "e\u0301", "\x00\x7f\xa0\u3000")
_CONVERSATIONS = (
    [("user", "What is 2 + 2?")],
    [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello!"), ("user", "  Two\n\nlines ")],
    [("user", "\u4f60\u597d"), ("assistant", "\U0001f600")],
    [("user", "a")] + [("assistant", "b"), ("user", "c")] * 3,
)


@dataclass(frozen=True)
class GGUFComparison:
    """A file against its source on `n_compared` positions of text."""

    largest_difference: float
    """Of one logit."""
    n_equal: int
    """Positions whose most likely token is the same."""
    n_compared: int
    kl: float
    """Nats a token, the mean."""
    n_conversations: int
    """Conversations whose ids were compared; 0 for a model without a chat template."""


def compare_gguf(
    model: LanguageModel,
    tokenizer: Tokenizer,
    read_model: LanguageModel,
    read_tokenizer: Tokenizer,
    file_type: GGUFType,
    *,
    with_template: bool,
    texts: Sequence[str] = (),
    accept_loss: bool = False,
) -> GGUFComparison:
    """Compare what was read with its source. `texts`: further text to compare logits on. Raises `UserError` naming the first
    difference; with `accept_loss` quantization may cost more than usual.
    """
    _compare_settings(model, read_model)
    _compare_tokenizers(tokenizer, read_tokenizer)
    n_conversations = _compare_templates(tokenizer, read_tokenizer) if with_template else 0
    _compare_weights(model, read_model, file_type)
    windows = _windows(tokenizer, model.config.max_seq_len, [*texts, *general_texts().values(), *SAMPLES])
    largest, n_equal, n_compared, kl = compare_logits(model, read_model, windows)
    if not largest < math.inf or (file_type == "F32" and not largest <= MAX_DIFFERENCE_F32):
        raise _wrong(f"a logit differs by {largest:.3g} (limit {MAX_DIFFERENCE_F32:g})")
    if not kl <= MAX_KL[file_type] and not accept_loss:
        raise UserError(
            f"{file_type} moves the next-token distributions by {kl:.3g} nats a token (limit {MAX_KL[file_type]:g}), and"
            f" the most likely token is the same on {n_equal:,} of {n_compared:,} positions",
            "choose a finer type, such as Q8_0 or F16, or accept it: --accept-loss",
        )
    return GGUFComparison(largest, n_equal, n_compared, kl, n_conversations)


@torch.inference_mode()
def compare_logits(
    model: LanguageModel, other: LanguageModel, windows: Sequence[Sequence[int]]
) -> tuple[float, int, int, float]:
    """The largest difference of a logit, positions with the same most likely token, positions, and the mean KL
    divergence from `model` to `other` in nats.
    """
    largest, n_equal, n_compared, total = 0.0, 0, 0, 0.0
    for window in windows:
        ids = torch.tensor([window], device=next(model.parameters()).device)
        first, second = (_logits(one, ids) for one in (model, other))
        difference = float((first - second).abs().max())
        largest = max(largest, difference) if difference == difference else math.inf
        n_equal += int((first.argmax(-1) == second.argmax(-1)).sum())
        n_compared += len(window)
        log_p, log_q = first.log_softmax(-1), second.log_softmax(-1)
        total += float((log_p.exp() * (log_p - log_q)).sum())
    return largest, n_equal, n_compared, total / max(1, n_compared)


def _logits(model: LanguageModel, ids: Tensor) -> Tensor:
    logits: Tensor = model(ids)[0].float()
    return logits


def _windows(tokenizer: Tokenizer, max_seq_len: int, texts: Sequence[str]) -> list[list[int]]:
    """Up to `MAX_POSITIONS` tokens of the texts, each text from its beginning."""
    windows: list[list[int]] = []
    left = MAX_POSITIONS
    for text in texts:
        before, after = text_boundaries(tokenizer)
        ids = [*before, *tokenizer.encode(text), *after]
        width = min(WINDOW, max_seq_len)
        for first in range(0, len(ids), width):
            if left > 0:
                windows.append(ids[first : first + width][:left])
                left -= len(windows[-1])
    return windows


def _wrong(what: str) -> UserError:
    return UserError(
        f"the file does not hold the model that it was written from: {what}",
        "it was not kept; report this message, and export a plain folder instead",
    )


def _compare_settings(model: LanguageModel, other: LanguageModel) -> None:
    for name, (value, found) in config_diff(model.config, other.config).items():
        if not _almost_equal(value, found):
            raise UserError(
                f"llama.cpp has no place for the model's setting {name} = {value!r}: read again it is {found!r}",
                "export a plain folder instead: parakit export MODEL --output FOLDER",
            )


def _almost_equal(value: object, found: object) -> bool:
    if isinstance(value, dict) and isinstance(found, dict):
        return value.keys() == found.keys() and all(_almost_equal(value[key], found[key]) for key in value)
    if isinstance(value, float | int) and isinstance(found, float | int):
        return math.isclose(value, found, rel_tol=_FLOAT_ERROR)
    return value == found


def _compare_tokenizers(tokenizer: Tokenizer, other: Tokenizer) -> None:
    for what, mine, read in (
        ("tokens", tokenizer.vocabulary, other.vocabulary),
        ("control tokens", tokenizer.special_tokens, other.special_tokens),
        ("ids around a text", text_boundaries(tokenizer), text_boundaries(other)),
        ("stop ids", *({i for i in stop_ids(one) if i < one.vocab_size} for one in (tokenizer, other))),
    ):
        if mine != read:
            differ = sorted(set(map(str, mine)) ^ set(map(str, read)))[:3]
            raise _wrong(f"its {what} differ{': ' if differ else ''}{', '.join(differ)}")
    for text in (*SAMPLES, *_HARD_TEXTS, *general_texts().values()):
        if tokenizer.encode(text) != other.encode(text):
            raise _wrong(f"the ids of the text {text[:40]!r} differ")


def _compare_templates(tokenizer: Tokenizer, other: Tokenizer) -> int:
    """The number of conversations with equal ids; one that the template refuses does not count."""
    n = 0
    for turns in _CONVERSATIONS:
        messages = [{"role": role, "content": content} for role, content in turns]
        for opened in (False, True):
            try:
                ids = compile_chat(tokenizer, messages, opened).token_ids
            except UserError:  # a template without a system role, or the like
                continue
            if ids != compile_chat(other, messages, opened).token_ids:
                raise _wrong(f"the ids of a conversation that begins with {turns[0][1]!r} differ")
            n += 1
    if n == 0:
        raise UserError(
            "the chat template renders none of the conversations by which it is compared",
            "correct the model's chat_template.jinja: see parakit chat",
        )
    return n


@torch.inference_mode()
def _compare_weights(model: LanguageModel, other: LanguageModel, file_type: GGUFType) -> None:
    read = dict(other.named_parameters())
    for name, weights in model.named_parameters():
        exact = weights.double()
        error = float((exact - read[name].double()).norm())
        allowed = _MAX_WEIGHT_ERROR[file_type] * float(exact.norm()) + 1e-7 * weights.numel() ** 0.5
        if not error <= allowed:
            raise _wrong(f"{name} differs by {error:.3g} (norm of the difference; limit {allowed:.3g})")
