"""How likely given continuations are: what texts have in common is computed once.

The texts are sorted and form a tree; a node is a run of tokens that all texts below it share. Each node is read once, its
row of the cache is forked for its children, and many nodes share a pass. The choices of a question share the question, and
questions share their examples.

Shapes: C tokens after which logits are wanted, V vocabulary.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from parakit.common.errors import UserError
from parakit.common.progress import OnProgress
from parakit.inference.batching import evaluation_mode, require_finite
from parakit.inference.capabilities import require_capability
from parakit.inference.engine.config import EngineConfig
from parakit.inference.engine.forward import ForwardPass, Work
from parakit.inference.engine.memory import cache_memory
from parakit.inference.engine.page_store import page_bytes
from parakit.inference.engine.paged_cache import CacheRow, PagedCache
from parakit.inference.generation.completion import check_ids, check_prompt
from parakit.model.config import DecoderConfig
from parakit.model.heads import LanguageModel
from parakit.model.precision import at_least_float32
from parakit.model.quantized import weight_like

MAX_ROWS = 64
STEP_TOKENS = 512
MAX_LOGITS = 2**25  # of a pass: logits are (C, vocab_size)
CACHE_BYTES = 2**28  # of the cache, or what `N_LONGEST` of the longest texts need
N_LONGEST = 4

Continuation = tuple[Sequence[int], Sequence[int]]
"""The ids of a context, and of what may follow it."""


@dataclass(frozen=True)
class ContinuationScore:
    """The log-probability of each token of a continuation, in nats, and whether greedy decoding would choose all of them."""

    log_probs: tuple[float, ...]
    is_greedy: bool


@dataclass(eq=False)
class _Text:
    """One text: `inputs` are its tokens but the last, `targets` what follows each of the last inputs."""

    inputs: list[int]
    targets: Sequence[int]
    log_probs: list[float] = field(default_factory=list)
    is_greedy: bool = True

    @property
    def first_target(self) -> int:
        """The input after which the first target comes."""
        return len(self.inputs) - len(self.targets)


@dataclass(eq=False)
class _Node:
    """Tokens `start` to `end` of all of `texts`, which are equal up to `end`; some of them may end there."""

    texts: list[_Text]
    start: int
    end: int
    parent: CacheRow | None
    takes_row: bool = False
    """Whether the parent's row becomes this node's: that of its last child."""

    @property
    def n_logits(self) -> int:
        """After how many of its last tokens some text has a target."""
        first = min(text.first_target for text in self.texts)
        return min(self.end - self.start, max(0, self.end - first))


def score_continuations(
    model: LanguageModel, pairs: Sequence[Continuation], *, advance: OnProgress | None = None
) -> list[ContinuationScore]:
    """The score of each (context, continuation), both at least one token; `advance` is called with numbers of finished ones.

    Raises `UserError` for a text that is longer than the model's window by more than its last token, and where one does not
    fit in memory.
    """
    require_capability(model, "log_likelihood")
    texts = [_text(model, *pair) for pair in pairs]
    if not texts:
        return []
    scorer = _Scorer(model, max(len(text.inputs) for text in texts), min(MAX_ROWS, len(texts)))
    with evaluation_mode(model):
        scorer.forward.prepare()
        for group in scorer.groups(sorted(texts, key=lambda text: text.inputs)):
            scorer.score(group)
            if advance is not None:
                advance(len(group))
    return [ContinuationScore(tuple(text.log_probs), text.is_greedy) for text in texts]


def _text(model: LanguageModel, context: Sequence[int], continuation: Sequence[int]) -> _Text:
    if not context or not continuation:
        raise UserError("a completion, or what it follows, has no tokens", "give both a text")
    ids = [*context, *continuation]
    check_prompt(len(ids) - 1, model.config.max_seq_len)
    check_ids(ids, model.config.vocab_size)
    return _Text(ids[:-1], continuation)


class _Scorer:
    """A cache, and the tree of one group of texts after the other."""

    def __init__(self, model: LanguageModel, longest: int, max_rows: int) -> None:
        weight = weight_like(model.lm_head)
        config = EngineConfig()
        decoder: Any = model.trunk.config
        self.cache = PagedCache(
            decoder,
            memory_bytes=min(
                cache_memory(config, weight.device)[0], _cache_bytes(decoder, longest, weight.dtype)
            ),
            max_rows=max_rows,
            step_tokens=STEP_TOKENS,
            max_seq_len=longest,
            page_size=min(config.page_size, longest),
            dtype=weight.dtype,
            device=weight.device,
        )
        # the angles of a text can depend on its length (longrope): then texts share nothing, and each is read at once
        self.shares = self.cache.switch_len is None
        self.cache.shares_prefixes &= self.shares
        self.forward = ForwardPass(model, self.cache)
        self.max_logits = max(1, MAX_LOGITS // model.config.vocab_size)
        self.max_node = min(self.cache.step_tokens, self.max_logits) if self.shares else longest
        for group in self.cache.groups:
            if self.cache.n_pages_alone(group, longest) > group.pool.n_pages:
                raise UserError(
                    f"a text of {longest} tokens needs more cache than the"
                    f" {group.pool.n_pages * group.page_bytes:,} bytes that are free",
                    "shorten the text, or free memory",
                )

    def groups(self, texts: Sequence[_Text]) -> Iterator[list[_Text]]:
        """Neighbours whose tree fits in the rows and pages of the cache: a text needs pages for what it does not share with the
        one before it, and one more for the page in which they part.
        """
        n_pages = min((group.pool.n_pages for group in self.cache.groups), default=sys.maxsize)
        group: list[_Text] = []
        n_held = 0
        for text in texts:
            shared = _n_equal(group[-1].inputs, text.inputs, 0) if group and self.shares else 0
            needed = self._n_pages(len(text.inputs) - shared)
            if group and (len(group) == self.cache.max_rows or n_held + needed > n_pages):
                yield group
                group, n_held, needed = [], 0, self._n_pages(len(text.inputs))
            group.append(text)
            n_held += needed
        yield group

    def _n_pages(self, n_tokens: int) -> int:
        return -(-n_tokens // self.cache.page_size) + 1

    def score(self, texts: list[_Text]) -> None:
        """The log-probabilities of all targets of a group."""
        if self.shares:
            waiting = list(_split(texts, 0, None, self.max_node))
        else:
            waiting = [_Node([text], 0, len(text.inputs), None) for text in texts]
        while waiting:
            waiting = self._pass(waiting) + waiting

    def _pass(self, waiting: list[_Node]) -> list[_Node]:
        """Read the first nodes of `waiting`, which leave it; returns their children."""
        nodes: list[_Node] = []
        works: list[Work] = []
        n_tokens = n_logits = 0
        while waiting:
            node = waiting[0]
            n_tokens += node.end - node.start
            n_logits += node.n_logits
            if works and (n_tokens > STEP_TOKENS or n_logits > self.max_logits):
                break
            row = self._row(waiting.pop(0))
            token_ids = node.texts[0].inputs[row.length : node.end]
            assert self.cache.reserve(row, len(token_ids)), "the tree of a group fits in the cache"
            works.append(Work(row, token_ids, node.n_logits))
            nodes.append(node)
        places = [node.end - node.n_logits for node in nodes]  # of the next logits of each
        for members, logits, _ in self.forward.run(works):
            targets: list[tuple[_Node, int]] = []
            for i in members:
                targets.append((nodes[i], places[i]))
                places[i] += 1
            _record(targets, logits)
        children: list[_Node] = []
        for node, work in zip(nodes, works, strict=True):
            self.cache.commit(work.row, work.token_ids)
            below = list(_split(node.texts, node.end, work.row, self.max_node))
            if not below:
                self.cache.release(work.row)
            children += below
        return children

    def _row(self, node: _Node) -> CacheRow:
        """A row that holds the tokens before the node; a text's first tokens may be in the cache already."""
        if node.parent is not None:
            return node.parent if node.takes_row else self.cache.fork(node.parent)
        # the token before the first target is computed, whatever the cache has: its logits are wanted
        first_wanted = node.end - max(node.n_logits, 1)
        return self.cache.new_row(node.texts[0].inputs[: first_wanted + 1 if self.shares else node.end])


def _cache_bytes(config: DecoderConfig, longest: int, dtype: torch.dtype) -> int:
    """Enough for a few texts: those of a benchmark share most of their tokens, and a larger cache is no faster."""
    page_size = min(EngineConfig().page_size, longest)
    page = page_bytes(config, config.n_layers, page_size, dtype)
    return max(CACHE_BYTES, N_LONGEST * (-(-longest // page_size) + 2) * page)


def _split(texts: Sequence[_Text], start: int, parent: CacheRow | None, longest: int) -> Iterator[_Node]:
    """The nodes below `parent`, of the sorted texts that go on after `start` tokens, which are the same in all."""
    found = [
        list(group)
        for _, group in groupby(
            (text for text in texts if len(text.inputs) > start), key=lambda text: text.inputs[start]
        )
    ]
    for i, group in enumerate(found):
        # of sorted texts the first and the last have least in common
        shared = _n_equal(group[0].inputs, group[-1].inputs, start)
        yield _Node(group, start, min(shared, start + longest), parent, takes_row=i == len(found) - 1)


def _n_equal(first: Sequence[int], second: Sequence[int], start: int) -> int:
    """How many tokens two sequences begin with alike, at least `start`."""
    low, high = start, min(len(first), len(second))
    while low < high:  # slices are compared much faster than tokens
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


@torch.inference_mode()
def _record(places: Sequence[tuple[_Node, int]], logits: Tensor) -> None:
    """Look targets up in logits (C, V), which are those after the inputs `places` of nodes."""
    rows: list[int] = []
    targets: list[int] = []
    texts: list[_Text] = []
    for row, (node, place) in enumerate(places):
        for text in node.texts:
            if place >= text.first_target:
                rows.append(row)
                targets.append(text.targets[place - text.first_target])
                texts.append(text)
    if not texts:
        return
    logits = require_finite(at_least_float32(logits), "logits")
    where, ids = (torch.tensor(numbers, device=logits.device) for numbers in (rows, targets))
    values = logits[where, ids] - logits.logsumexp(-1)[where]
    is_best = logits.argmax(-1)[where] == ids
    for text, value, best in zip(texts, values.tolist(), is_best.tolist(), strict=True):
        text.log_probs.append(value)
        text.is_greedy &= best
