"""Checks of the data of alignment: preferences for a reward model or DPO, prompts for methods that sample completions.

Views show people the tokens of a prompt and of its completions, on both sides of the seam.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

from parakit.alignment.preferences.dpo import PreferenceObjective, reference_log_probs
from parakit.alignment.preferences.reward_model import RewardObjective
from parakit.alignment.rl.prompts import RLPrompt
from parakit.checkpoints.loading import load_model
from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.data.conversations.conversation import Conversation
from parakit.data.preferences.rankings import Ranking
from parakit.inference.capabilities import require_capability
from parakit.model.config import DecoderConfig
from parakit.model.heads import LanguageModel, RewardModel, TransformerModel
from parakit.tokens.chat.template import compile_chat
from parakit.tokens.chat.template_support import supported_form
from parakit.tokens.preferences.encoding import EncodedRankings, completion_ids, encode_rankings
from parakit.tokens.preferences.sources import PreferenceSource
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.config import TrainingConfig, resolve_examples
from parakit.training.doctor import CheckResult, TokenView, registry, run_checks
from parakit.training.doctor.folders import token_views
from parakit.training.doctor.openings import opening
from parakit.training.doctor.run import run_in
from parakit.training.doctor.turn_markers import TurnMarkers
from parakit.training.micro_batches import Objective
from parakit.training.row_sources import RowSource
from parakit.training.tasks import TASKS

N_ROWS, MAX_RANKINGS = 4, 256
PreferenceMethod = Literal["reward", "dpo"]


@dataclass(frozen=True)
class RankingView:
    """A prompt, and its completions by name, best first."""

    prompt: list[TokenView]
    completions: list[tuple[str, list[TokenView]]]


@dataclass(frozen=True)
class PromptView:
    """A prompt with the assistant's turn opened, and its reference answer, if any."""

    prompt: list[TokenView]
    answer: str | None


def check_rankings(
    model_path: str | Path,
    rankings: Iterable[Ranking],
    method: PreferenceMethod | None = None,
    seq_len: int | None = None,
) -> tuple[list[CheckResult], EncodedRankings, Tokenizer]:
    """Check a model folder with the first rankings it is to be trained on; `method` None: "reward" for a reward model,
    else "dpo". Returns the encoded rankings and the tokenizer, too.
    """
    model, tokenizer = load_model(model_path, dtype="float32")
    tokenizer = _with_template(model_path, tokenizer)
    if isinstance(model, RewardModel):
        if method == "dpo":
            raise UserError(
                f"{model_path}: is a reward model, but dpo tunes a language model", "name a language model"
            )
        method = "reward"
    else:
        require_capability(model, "generate")
        method = method or "dpo"
    data = encode_rankings(
        tokenizer,
        islice(rankings, MAX_RANKINGS),
        seq_len or model.config.max_seq_len,
        window=model.config.max_seq_len,
    )
    for line in data.long_rows.lines():
        log(f"rankings: {line}")
    plan = resolve_examples(
        TrainingConfig(seq_len=seq_len, device="cpu"),
        batch_examples=N_ROWS,
        max_seq_len=model.config.max_seq_len,
        n_train_examples=data.n_examples,
        learning_rate=0.01,
        embedding_learning_rate=0.01,
    )
    objective: Objective = RewardObjective() if method == "reward" else PreferenceObjective()
    reference = None
    if method == "dpo":
        assert isinstance(model, LanguageModel)
        reference = reference_log_probs(model, PreferenceSource(data, 0))
    source: RowSource = PreferenceSource(data, 0, reference, n_rows_hint=N_ROWS)
    trained = _reward_model(model) if method == "reward" else model
    return run_checks(trained, tokenizer, source, data, plan, objective, TASKS[method]), data, tokenizer


def ranking_views(tokenizer: Tokenizer, data: EncodedRankings, n: int) -> list[RankingView]:
    """The first `n` rankings."""
    views = []
    for begin, end in zip(data.first[:-1][:n].tolist(), data.first[1:][:n].tolist(), strict=True):
        cut = int(data.prompt_lengths[begin])
        prompt = data.sequence(begin)[:cut].tolist()
        completions = [data.sequence(i)[cut:].tolist() for i in range(begin, end)]
        views.append(
            RankingView(
                token_views(tokenizer, prompt, [False] * cut),
                [
                    (name, token_views(tokenizer, ids, [True] * len(ids)))
                    for name, ids in zip(_names(len(completions)), completions, strict=True)
                ],
            )
        )
    return views


@dataclass(frozen=True)
class PromptContext:
    """Prompts of a rollout, and the tokenizer that encoded them."""

    prompts: list[RLPrompt]
    tokenizer: Tokenizer
    checked_as: tuple[str, ...] = ("prompts",)

    @property
    def turn_markers(self) -> TurnMarkers | None:
        return TurnMarkers.of(self.tokenizer)


def check_rollout_prompts(prompts: list[RLPrompt], tokenizer: Tokenizer) -> list[CheckResult]:
    """Check the prompts of a method that samples its completions."""
    return run_in(PromptContext(prompts, tokenizer))


def prompt_views(tokenizer: Tokenizer, prompts: list[RLPrompt], n: int) -> list[PromptView]:
    """The first `n` prompts, uncounted."""
    return [
        PromptView(token_views(tokenizer, list(p.token_ids), [False] * len(p.token_ids)), p.answer)
        for p in prompts[:n]
    ]


def _names(n: int) -> Iterator[str]:
    yield from ("chosen", "rejected") if n == 2 else (f"place {place} of {n}" for place in range(1, n + 1))


def _with_template(path: str | Path, tokenizer: Tokenizer | None) -> Tokenizer:
    if tokenizer is None or tokenizer.chat_template is None:
        raise UserError(
            f"{path}: has no chat template, so preferences cannot be encoded", "name a model tuned for chat"
        )
    return tokenizer


def _reward_model(model: TransformerModel) -> RewardModel:
    """The reward model that training begins with."""
    if isinstance(model, RewardModel):
        return model
    assert isinstance(model.config, DecoderConfig)
    reward_model = RewardModel(model.config)
    reward_model.trunk.load_state_dict(model.trunk.state_dict())
    return reward_model


check = partial(registry.check, subject="Prompts of rollouts", applies_to=("prompts",))
_TEMPLATE = "Use the chat template that the model was tuned with."
MAX_COMPILED = 16  # prompts that are compiled again with a completion


@check(
    "turn-not-opened",
    prevents="A prompt does not open the assistant's turn, so the model continues the user's message.",
    noticed_by="The last token of every prompt must be the assistant's turn marker.",
    remedy=_TEMPLATE,
)
def turn_not_opened(context: PromptContext) -> str | None:
    if context.turn_markers is None:
        return None
    openers = {token_id for token_id, role in context.turn_markers.roles.items() if role == "assistant"}
    n = sum(prompt.token_ids[-1] not in openers for prompt in context.prompts)
    return f"{n} of {len(context.prompts)} prompts do not open the assistant's turn" if n else None


@check(
    "prompt-double-bos",
    prevents="A prompt begins with BOS twice, once from the template and once from the tokenizer.",
    noticed_by="BOS is counted in every prompt.",
    remedy=_TEMPLATE,
    sources=("open-r1 PR #462", "transformers #37686"),
)
def prompt_double_bos(context: PromptContext) -> str | None:
    expected = opening(context.tokenizer, "conversations")
    if expected is None:
        return None
    faults = [expected.fault(prompt.token_ids, is_whole=False) for prompt in context.prompts]
    n = sum(fault is not None for fault in faults)
    return f"{n} of {len(faults)} prompts: {next(filter(None, faults))}" if n else None


@check(
    "prompt-seam-differs",
    prevents="A conversation with the answer begins with other tokens than its prompt, so rollouts train on tokens that"
    " serving never sends.",
    noticed_by="Some prompts are compiled again with an answer and compared token by token.",
    remedy=_TEMPLATE,
)
def prompt_seam_differs(context: PromptContext) -> str | None:
    for prompt in context.prompts[:MAX_COMPILED]:
        try:
            written = supported_form(context.tokenizer, Conversation(prompt.messages, tools=prompt.tools))
            whole = compile_chat(context.tokenizer, written, add_generation_prompt=True).token_ids
            is_cut = 1 < len(prompt.token_ids) < len(whole)
            is_cut = is_cut and tuple(whole[1 - len(prompt.token_ids) :]) == prompt.token_ids[1:]
            expected = (
                whole if is_cut else prompt.token_ids
            )  # cut on the left: what is left is the template's
            completion_ids(context.tokenizer, prompt.messages, prompt.answer or "x", expected, prompt.tools)
        except UserError as error:
            return f"of a prompt of {len(prompt.token_ids)} tokens: {error}"
    return None
