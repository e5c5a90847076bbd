"""Rollouts: completions of prompts with their log-probabilities under the policy and its frozen reference.

Completions come from the inference engine, all prompts and their groups in one call. Log-probabilities are the model's own,
without temperature and top-p. Where the engine computes as training does, in full precision, the policy's come from the
passes that draw the tokens, and the reference's from the engine's scores; else both come from a forward pass in evaluation
mode. Rollouts are a pure function of the seed, the phase and the policy's weights.

Shapes: N completions (those of one prompt are consecutive), T targets, V vocabulary, C counted targets.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from parakit.alignment.config import RolloutConfig
from parakit.alignment.preferences.shared_prefix import hidden_at
from parakit.alignment.rl.batches import counted_lengths, prefix_tree_of
from parakit.alignment.rl.prompts import RLPrompt, SampledCompletion
from parakit.alignment.rl.tool_tasks import draw_episodes
from parakit.common.seeds import derive_seed
from parakit.inference.batching import evaluation_mode
from parakit.inference.config import SamplingConfig
from parakit.inference.engine.scoring import score_continuations
from parakit.inference.generation.decoding import generate_choices
from parakit.inference.generation.sampling import Choice, request_seeds
from parakit.inference.native_forward import can_run_natively
from parakit.model.heads import ActorCritic, LanguageModel
from parakit.model.layers.masks import supports_prefix_tree
from parakit.model.layers.tree_attention import attends_by_segment
from parakit.model.precision import at_least_float32
from parakit.model.quantized import is_quantized, weight_like
from parakit.tokens.chat.template import response_text, stop_ids
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.micro_batches import PrefixTreeInputs
from parakit.training.objectives.fused_head_loss import can_fuse_log_probs, fused_log_probs_and_entropy

DECODING_ROWS = 256  # of one decoding batch
SCORING_ROWS = 64  # rows of one forward pass


@dataclass(frozen=True)
class TokenRows:
    """Prompts with completions as rows for a decoder, padded on the right; targets are the inputs shifted by one."""

    input_ids: np.ndarray  # (N, T) int64
    target_ids: np.ndarray  # (N, T) int64
    loss_mask: np.ndarray  # (N, T) bool, True = a token of the completion

    @property
    def lengths(self) -> np.ndarray:
        """(N,): targets of each row up to its last counted one."""
        return counted_lengths(self.loss_mask)


@dataclass(frozen=True)
class Rollouts:
    """A phase of completions, without their rewards."""

    samples: tuple[SampledCompletion, ...]
    rows: TokenRows
    log_probs: np.ndarray  # (N, T) float32, the policy's own; zero outside completions
    reference_log_probs: np.ndarray  # (N, T) float32
    ended: np.ndarray  # (N,) bool, False = truncated at max_new_tokens
    share_prompts: bool = False  # a prompt passes the network once for all its completions
    wide_trees: bool = False  # as `RolloutBatch.wide_trees`


Policy = LanguageModel | ActorCritic
ModuleT = TypeVar("ModuleT", bound=nn.Module)


def frozen_copy(model: ModuleT) -> ModuleT:
    """A copy of `model` as reference: no shared tensors, no gradients, no dropout."""
    reference = copy.deepcopy(model).eval().requires_grad_(False)
    check_separate(model, reference)
    return reference


def check_separate(policy: nn.Module, reference: nn.Module) -> None:
    """Assert that the reference shares no memory with the policy, which would change it, and is frozen without dropout."""
    policy_pointers = {
        tensor.data_ptr() for tensor in chain(policy.parameters(), policy.buffers()) if tensor.numel()
    }
    reference_tensors = chain(reference.parameters(), reference.buffers())
    assert not any(tensor.data_ptr() in policy_pointers for tensor in reference_tensors if tensor.numel()), (
        "the reference shares tensors with the policy"
    )
    assert not any(module.training for module in reference.modules()), "the reference is in training mode"
    assert not any(p.requires_grad for p in reference.parameters()), "the reference would be trained"


def complete(
    policy: LanguageModel,
    tokenizer: Tokenizer,
    prompts: Sequence[RLPrompt],
    config: RolloutConfig,
    seed: int,
    temperature: float | None = None,
    group_size: int | None = None,
) -> tuple[list[SampledCompletion], list[list[int]]]:
    """`group_size` (None: the config's) completions of each prompt, those of one prompt consecutive, and their ids."""
    repeated = [prompt for prompt in prompts for _ in range(group_size or config.group_size)]
    if config.uses_tools:
        return draw_episodes(policy, tokenizer, repeated, config, seed, temperature)
    seeds = request_seeds(seed, len(repeated))
    samples, choices = _draw(policy, tokenizer, repeated, config, seeds, temperature)
    return samples, _token_ids(choices)


def _token_ids(completions: Sequence[Sequence[Choice]]) -> list[list[int]]:
    return [[choice.token_id for choice in completion] for completion in completions]


def _draw(
    policy: LanguageModel,
    tokenizer: Tokenizer,
    repeated: Sequence[RLPrompt],
    config: RolloutConfig,
    seeds: Sequence[int],
    temperature: float | None = None,
    log_probabilities: bool = False,
    keep_hidden: bool = False,
) -> tuple[list[SampledCompletion], list[list[Choice]]]:
    """A completion of each of the prompts, with the `log_probabilities` of its tokens, and the vectors before them."""
    sampling = SamplingConfig(
        temperature=config.temperature if temperature is None else temperature,
        top_p=config.top_p,
        max_new_tokens=config.max_new_tokens,
        log_probabilities=0 if log_probabilities else None,
    )
    stops = frozenset(stop_ids(tokenizer))
    completions = generate_choices(
        policy,
        [prompt.token_ids for prompt in repeated],
        sampling,
        stops,
        seeds=seeds,
        micro_batch_size=DECODING_ROWS,
        keep_hidden=keep_hidden,
    )
    samples = []
    for prompt, token_ids in zip(repeated, _token_ids(completions), strict=True):
        ended = token_ids[-1] in stops
        text = response_text(tokenizer, token_ids[:-1] if ended else token_ids)
        samples.append(
            SampledCompletion(prompt.messages, prompt.answer, text, ended, prompt.tests, prompt.tools)
        )
    return samples, completions


def token_rows(
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    samples: Sequence[SampledCompletion] = (),
) -> TokenRows:
    """Rows of prompts with their completions; `samples` have what of a completion is counted, where that is not all."""
    longest = (
        max(len(prompt) + len(completion) for prompt, completion in zip(prompts, completions, strict=True))
        - 1
    )
    shape = (len(prompts), longest)
    rows = TokenRows(np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape, bool))
    for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        token_ids = [*prompt, *completion]
        n = len(token_ids) - 1
        rows.input_ids[i, :n], rows.target_ids[i, :n] = token_ids[:-1], token_ids[1:]
        counted = samples[i].counted if samples else None
        rows.loss_mask[i, len(prompt) - 1 : n] = True if counted is None else counted
    return rows


def log_probs_and_entropy(
    model: Policy,
    input_ids: Tensor,
    target_ids: Tensor,
    loss_mask: Tensor,
    prefix_tree: PrefixTreeInputs | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The log-probability (C,) of every counted target, the entropy (C,) of its distribution, without a gradient, and the
    hidden vector (C, D) before it.
    """
    language_model = model.policy if isinstance(model, ActorCritic) else model
    hidden, _ = hidden_at(model, input_ids, loss_mask, prefix_tree)
    targets = target_ids[loss_mask]
    if can_fuse_log_probs(language_model, hidden):
        return *fused_log_probs_and_entropy(language_model, hidden, targets), hidden
    logs = _log_distributions(model, hidden)
    entropy = -(logs.detach().exp() * logs.detach()).sum(-1)
    return logs.gather(1, targets[:, None]).squeeze(1), entropy, hidden


def _log_distributions(model: Policy, hidden: Tensor) -> Tensor:
    """The log-probabilities (C, V) of all tokens after hidden vectors (C, D)."""
    return at_least_float32(model.logits(hidden)).log_softmax(-1)


@torch.no_grad()
def token_log_probs(model: Policy, rows: TokenRows) -> np.ndarray:
    """(N, T) float32: the log-probability of each counted target, in evaluation mode; zero elsewhere."""
    return score_rows(model, rows)[0]


@torch.no_grad()
def score_rows(model: Policy, rows: TokenRows, values: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities (N, T) and, with `values`, the value head's values (N, T), float32, in evaluation mode."""
    all_log_probs, all_values = (
        np.zeros(rows.loss_mask.shape, np.float32),
        np.zeros(rows.loss_mask.shape, np.float32),
    )
    with evaluation_mode(model):
        for members, part, tensors in _groups(rows, model):
            log_probs, _, hidden = log_probs_and_entropy(model, *tensors)
            places = (members[:, None], np.arange(part.loss_mask.shape[1]))
            _store(all_log_probs, places, part.loss_mask, log_probs)
            if values:
                assert isinstance(model, ActorCritic)
                _store(all_values, places, part.loss_mask, model.values(hidden))
    return all_log_probs, all_values


@torch.no_grad()
def value_rows(model: ActorCritic, rows: TokenRows) -> np.ndarray:
    """The values (N, T) of `score_rows` alone: nothing passes the output matrix."""
    values = np.zeros(rows.loss_mask.shape, np.float32)
    with evaluation_mode(model):
        for members, part, (input_ids, _, loss_mask, tree) in _groups(rows, model):
            hidden, _ = hidden_at(model, input_ids, loss_mask, tree)
            places = (members[:, None], np.arange(part.loss_mask.shape[1]))
            _store(values, places, part.loss_mask, model.values(hidden))
    return values


@torch.no_grad()
def exact_kl(policy: Policy, reference: Policy, rows: TokenRows) -> np.ndarray:
    """(N,): KL of the policy from the reference along each completion, in nats, every token's over the whole vocabulary:
    the estimate with the least variance that samples allow.
    """
    kl = np.zeros(len(rows.loss_mask))
    with evaluation_mode(policy):
        for members, part, tensors in _groups(rows, policy):
            input_ids, _, loss_mask, tree = tensors
            logs, reference_logs = (
                _log_distributions(model, hidden_at(model, input_ids, loss_mask, tree)[0])
                for model in (policy, reference)
            )
            nats = torch.zeros(part.loss_mask.shape, device=logs.device, dtype=logs.dtype)
            nats[loss_mask] = (logs.exp() * (logs - reference_logs)).sum(-1)
            kl[members] = nats.sum(1).cpu().numpy()
    return kl


def roll_out(
    trained: Policy,
    reference: LanguageModel,
    tokenizer: Tokenizer,
    prompts: Sequence[RLPrompt],
    config: RolloutConfig,
    phase: int,
    values: bool = False,
    autocast: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
    part: slice = slice(None),
) -> tuple[Rollouts, np.ndarray]:
    """One phase's completions, or a `part` of them, with both log-probabilities, and with `values` the value head's values
    (N, T). `trained` is the policy, or an `ActorCritic`; `autocast` is the precision of training. A completion's random
    numbers are those of its number in the phase.
    """
    policy = trained.policy if isinstance(trained, ActorCritic) else trained
    seed = derive_seed(config.seed, "rollouts", phase) % 2**63
    repeated = [prompt for prompt in prompts for _ in range(config.group_size)]
    seeds, first = request_seeds(seed, len(repeated))[part], part.start or 0
    repeated = repeated[part]
    if config.uses_tools:
        samples, ids = draw_episodes(policy, tokenizer, repeated, config, seed, first=first)
        return score_rollouts(trained, reference, repeated, samples, ids, values, autocast)
    with autocast():
        is_exact = draws_as_trained(policy)
    samples, choices = _draw(
        policy,
        tokenizer,
        repeated,
        config,
        seeds,
        log_probabilities=is_exact,
        keep_hidden=is_exact and values,
    )
    ids, drawn = _token_ids(choices), choices if is_exact else None
    return score_rollouts(trained, reference, repeated, samples, ids, values, autocast, drawn)


def draws_as_trained(policy: LanguageModel) -> bool:
    """Whether drawing computes the policy's log-probabilities as training does, but for the order of sums: in float32 or
    float64 throughout, without weights or activations of fewer bits.
    """
    full = all(p.itemsize >= 4 for p in policy.parameters())
    device = weight_like(policy.lm_head).device
    return full and not is_quantized(policy) and not torch.is_autocast_enabled(device.type)


def score_rollouts(
    trained: Policy,
    reference: LanguageModel,
    repeated: Sequence[RLPrompt],
    samples: Sequence[SampledCompletion],
    completions: Sequence[Sequence[int]],
    values: bool = False,
    autocast: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
    drawn: Sequence[Sequence[Choice]] | None = None,
) -> tuple[Rollouts, np.ndarray]:
    """Rollouts of given completions: `completions` are ids, one for each of the prompts `repeated`, and `drawn` how they
    were drawn, where that gave the policy's log-probabilities.
    """
    rows = token_rows([prompt.token_ids for prompt in repeated], completions, samples)
    is_whole = all(sample.counted is None for sample in samples)
    with autocast():
        if drawn is None:
            log_probs, all_values = score_rows(trained, rows, values)
        else:
            log_probs, all_values = _drawn_rows(trained, rows, drawn, values)
        if is_whole and draws_as_trained(reference) and can_run_natively(reference):
            reference_log_probs = _native_log_probs(reference, rows, repeated, completions)
        else:
            reference_log_probs = token_log_probs(reference, rows)
    ended = np.array([sample.ended for sample in samples])
    shares = supports_prefix_tree(trained.config)
    wide = shares and attends_by_segment(trained.config)
    return Rollouts(tuple(samples), rows, log_probs, reference_log_probs, ended, shares, wide), all_values


def _native_log_probs(
    model: LanguageModel,
    rows: TokenRows,
    repeated: Sequence[RLPrompt],
    completions: Sequence[Sequence[int]],
) -> np.ndarray:
    """`token_log_probs` by the compiled kernels: prompts, and what completions begin with alike, are computed once."""
    pairs = [(prompt.token_ids, ids) for prompt, ids in zip(repeated, completions, strict=True)]
    log_probs = np.zeros(rows.loss_mask.shape, np.float32)
    scores = score_continuations(model, pairs)
    log_probs[rows.loss_mask] = list(chain.from_iterable(score.log_probs for score in scores))
    return log_probs


@torch.no_grad()
def _drawn_rows(
    trained: Policy, rows: TokenRows, drawn: Sequence[Sequence[Choice]], values: bool
) -> tuple[np.ndarray, np.ndarray]:
    """What `score_rows` gives, of completions that were drawn with log-probabilities, and with the vectors before them where
    an engine ran.
    """
    choices = list(chain.from_iterable(drawn))  # in the order of `rows`
    log_probs, all_values = (np.zeros(rows.loss_mask.shape, np.float32) for _ in range(2))
    log_probs[rows.loss_mask] = [choice.log_probability for choice in choices]
    if values:
        assert isinstance(trained, ActorCritic)
        hidden = [choice.hidden for choice in choices if choice.hidden is not None]
        if len(hidden) < len(choices):
            return log_probs, value_rows(trained, rows)
        all_values[rows.loss_mask] = trained.values(torch.stack(hidden)).float().cpu().numpy()
    return log_probs, all_values


ScoringInputs = tuple[Tensor, Tensor, Tensor, PrefixTreeInputs | None]


def _groups(rows: TokenRows, model: Policy) -> Iterator[tuple[np.ndarray, TokenRows, ScoringInputs]]:
    """The rows in groups, cut to the longest of each group, with the inputs of `log_probs_and_entropy`: in order where prompts
    pass the network once, else sorted by length.
    """
    lengths, device, shares = (
        rows.lengths,
        next(model.parameters()).device,
        supports_prefix_tree(model.config),
    )
    order = np.arange(len(lengths)) if shares else np.argsort(lengths, kind="stable")
    for start in range(0, len(order), SCORING_ROWS):
        members = order[start : start + SCORING_ROWS]
        arrays = (rows.input_ids, rows.target_ids, rows.loss_mask)
        part = TokenRows(*(array[members, : lengths[members].max()] for array in arrays))
        first, second, third = (torch.from_numpy(array).to(device) for array in vars(part).values())
        wide = attends_by_segment(model.config)
        tree = prefix_tree_of(part.input_ids, part.loss_mask, device, wide) if shares else None
        yield members, part, (first, second, third, tree)


def _store(
    into: np.ndarray, places: np.ndarray | tuple[np.ndarray, ...], loss_mask: np.ndarray, counted: Tensor
) -> None:
    part = np.zeros(loss_mask.shape, np.float32)
    part[loss_mask] = counted.float().cpu().numpy()
    into[places] = part
