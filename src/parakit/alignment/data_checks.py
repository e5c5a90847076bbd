"""The doctor on what alignment learns from: preferences for a reward model or DPO, prompts for methods that answer
themselves. Views are for people: token by token what is given, what is chosen and what is rejected, on either side of
the seam.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from parakit.alignment.preferences.dpo import PreferenceObjective, reference_log_probs
from parakit.alignment.preferences.reward_model import RewardObjective
from parakit.alignment.rl.prompts import RLPrompt
from parakit.checkpoints.model_folder import load_model
from parakit.common.errors import UserError
from parakit.data.preferences.rankings import Ranking
from parakit.inference.capabilities import require_capability
from parakit.model.config import DecoderConfig
from parakit.model.heads import LanguageModel, Model, RewardModel
from parakit.tokens.preferences.encoding import EncodedRankings, completion_ids, encode_rankings
from parakit.tokens.preferences.sources import PreferenceSource
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.config import TrainingConfig, resolve_examples
from parakit.training.doctor import Finding, TokenView, examine
from parakit.training.doctor.folders import token_views
from parakit.training.doctor.turns import Grammar

N_ROWS, MAX_RANKINGS = 4, 256
Learner = Literal["reward", "dpo"]


@dataclass(frozen=True)
class RankingView:
    """A prompt, and its completions by name, best first. The seam is between the two."""

    prompt: list[TokenView]
    completions: list[tuple[str, list[TokenView]]]


@dataclass(frozen=True)
class PromptView:
    """A prompt with the assistant's turn opened, and the right answer where there is one."""

    prompt: list[TokenView]
    answer: str | None


def examine_rankings(
    model_path: str | Path,
    rankings: Iterable[Ranking],
    learner: Learner | None = None,
    seq_len: int | None = None,
) -> tuple[list[Finding], EncodedRankings, Tokenizer]:
    """Examine a model folder with (the first of) the rankings it is to learn from; `learner` None: a reward model
    judges, any other model is tuned. Returns the rankings' ids, too.
    """
    model, tokenizer = load_model(model_path, dtype="float32")
    tokenizer = _with_template(model_path, tokenizer)
    if isinstance(model, RewardModel):
        if learner == "dpo":
            raise UserError(
                f"{model_path}: is a reward model, and dpo tunes one that speaks", "name that one"
            )
        learner = "reward"
    else:
        require_capability(model, "generate")
        learner = learner or "dpo"
    data = encode_rankings(
        tokenizer,
        islice(rankings, MAX_RANKINGS),
        seq_len or model.config.max_seq_len,
        too_long="truncate_prompt",
    )
    plan = resolve_examples(
        TrainingConfig(seq_len=seq_len, device="cpu"),
        batch_examples=N_ROWS,
        max_seq_len=model.config.max_seq_len,
        n_train_examples=data.n_examples,
        learning_rate=0.01,
        embedding_learning_rate=0.01,
    )
    objective: Any = RewardObjective() if learner == "reward" else PreferenceObjective()
    reference = None
    if learner == "dpo":
        assert isinstance(model, LanguageModel)
        reference = reference_log_probs(model, PreferenceSource(data, 0))
    source: Any = PreferenceSource(data, 0, reference, n_rows_hint=N_ROWS)
    learning: Any = data
    examined = _judging(model) if learner == "reward" else model
    findings = examine(examined, tokenizer, source, learning, plan, objective, learner)
    return findings, data, tokenizer


def ranking_views(tokenizer: Tokenizer, data: EncodedRankings, n: int) -> list[RankingView]:
    """The first `n` rankings."""
    found = []
    for begin, end in zip(data.first[:-1][:n].tolist(), data.first[1:][:n].tolist(), strict=True):
        cut = int(data.prompt_lengths[begin])
        prompt = data.whole(begin)[:cut].tolist()
        said = [data.whole(i)[cut:].tolist() for i in range(begin, end)]
        found.append(
            RankingView(
                token_views(tokenizer, prompt, [False] * cut),
                [
                    (name, token_views(tokenizer, ids, [True] * len(ids)))
                    for name, ids in zip(_names(len(said)), said, strict=True)
                ],
            )
        )
    return found


def examine_prompts(prompts: list[RLPrompt], tokenizer: Tokenizer) -> list[Finding]:
    """Whether each prompt opens the assistant's turn, once and at its end, stands behind one BOS, and is what a whole
    conversation begins with.
    """
    grammar = Grammar.of(tokenizer)
    checks = [
        ("turn-not-opened", 8, "Every prompt ends where the assistant begins", _not_opened(prompts, grammar)),
        ("bos-twice", 6, "Every prompt begins with one BOS at most", _bos_twice(prompts, tokenizer)),
        ("seam-differs", 33, "A conversation begins with its prompt's tokens", _seam(prompts, tokenizer)),
    ]
    hint = "use the chat template that the model was tuned with"
    return [
        Finding(name, title, fault is None, fault or "", hint if fault else "", pitfall)
        for name, pitfall, title, fault in checks
    ]


def prompt_views(tokenizer: Tokenizer, prompts: list[RLPrompt], n: int) -> list[PromptView]:
    """The first `n` prompts; nothing of them counts."""
    return [
        PromptView(token_views(tokenizer, list(p.token_ids), [False] * len(p.token_ids)), p.answer)
        for p in prompts[:n]
    ]


def _names(n: int) -> Iterator[str]:
    yield from ("chosen", "rejected") if n == 2 else (f"place {place} of {n}" for place in range(1, n + 1))


def _with_template(path: str | Path, tokenizer: Tokenizer | None) -> Tokenizer:
    if tokenizer is None or tokenizer.chat_template is None:
        raise UserError(
            f"{path}: has no chat template, so preferences cannot be read", "name a model tuned for chat"
        )
    return tokenizer


def _judging(model: Model) -> RewardModel:
    """The reward model that training would begin with."""
    if isinstance(model, RewardModel):
        return model
    assert isinstance(model.config, DecoderConfig)
    judge = RewardModel(model.config)
    judge.trunk.load_state_dict(model.trunk.state_dict())
    return judge


def _not_opened(prompts: list[RLPrompt], grammar: Grammar | None) -> str | None:
    if grammar is None:
        return None
    openers = {token_id for token_id, role in grammar.roles.items() if role == "assistant"}
    n = sum(prompt.token_ids[-1] not in openers for prompt in prompts)
    return f"{n} of {len(prompts)} prompts do not end with the opened turn of the assistant" if n else None


def _seam(prompts: list[RLPrompt], tokenizer: Tokenizer, most: int = 16) -> str | None:
    for prompt in prompts[:most]:
        try:
            completion_ids(tokenizer, prompt.messages, prompt.answer or "x", prompt.token_ids)
        except UserError as error:
            return f"of a prompt of {len(prompt.token_ids)} tokens: {error}"
    return None


def _bos_twice(prompts: list[RLPrompt], tokenizer: Tokenizer) -> str | None:
    if tokenizer.bos_id is None or tokenizer.bos_id == tokenizer.eos_id:
        return None
    n = sum(prompt.token_ids.count(tokenizer.bos_id) > 1 for prompt in prompts)
    return f"{n} of {len(prompts)} prompts have more than one BOS" if n else None
