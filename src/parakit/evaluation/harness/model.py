"""A model as lm-eval sees one: log-likelihoods, rolling log-likelihoods and generated text.

Contexts and continuations are encoded as lm-eval's transformers model encodes them, so that its scores are the same. A
conversation is compiled to ids by the model's chat template, and text in it never becomes a control token. What is computed
is kept in an `AnswerStore`, if there is one: a run that was interrupted resumes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from parakit.common.errors import UserError
from parakit.common.progress import OnProgress
from parakit.data.conversations.conversation import Message
from parakit.evaluation.harness.answers import AnswerStore
from parakit.evaluation.harness.backends import Backend, TokenPair
from parakit.inference.generation.completion import prompt_ids
from parakit.tokens.tokenizer.tokenizer import Tokenizer

MIN_BLOCK, MAX_BLOCK = 64, 4096  # requests that are computed, and kept, together
BLOCK_SECONDS = 10.0  # about what a block may take: an interruption loses so much
CONVERSATION = (
    "\N{SYMBOL FOR START OF TEXT}parakit-conversation "  # a conversation on its way through the harness
)
DEFAULT_NEW_TOKENS = 256  # where a task sets none, as in lm-eval
_LENGTH_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")

Item = TypeVar("Item")
Answer = TypeVar("Answer")
PlainSettings = dict[str, Any]


class HarnessModel(TemplateLM):
    """A loaded decoder or encoder-decoder and its tokenizer."""

    def __init__(
        self,
        backend: Backend,
        tokenizer: Tokenizer,
        *,
        name: str = "",
        answers: AnswerStore | None = None,
        advance: OnProgress | None = None,
        max_new_tokens: int | None = None,
    ) -> None:
        """`max_new_tokens` replaces the length limits of tasks that generate."""
        super().__init__()
        self.computes, self.text_tokenizer, self.name = backend, tokenizer, name
        self.backend = "seq2seq" if backend.has_source else "causal"  # lm-eval's word for it
        self.answers, self.advance, self.max_new_tokens = answers, advance, max_new_tokens
        self.max_seq_len = backend.max_seq_len
        self.truncated: set[str] = set()
        """Contexts, and texts, that the context window could not hold."""

    # --- what the harness looks at
    @property
    def eot_token_id(self) -> int:
        """What ends a text."""
        return _require(self.text_tokenizer.eos_id, "EOS")

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text whose every token counts."""
        return _require(self.text_tokenizer.start_id, "BOS and no EOS")

    @property
    def tokenizer_name(self) -> str:
        """Names the chat template in the harness's results."""
        return self.name

    def chat_template(self, chat_template: bool | str = False) -> str:
        """The model's, for the harness's results."""
        return self.text_tokenizer.chat_template or ""

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The conversation as text that `tok_encode` recognizes: its ids are made there, by the chat template."""
        if self.text_tokenizer.chat_template is None:
            raise UserError(
                "the model has no chat template",
                "leave out --prompting chat, or tune the model for chat first",
            )
        if not add_generation_prompt:
            raise UserError(
                "a task that begins the assistant's answer cannot be put into this chat template",
                "evaluate it with --prompting plain",
            )
        return CONVERSATION + json.dumps(chat_history, ensure_ascii=False)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """The ids of a text, or of a conversation up to where the assistant's answer begins."""
        if string.startswith(CONVERSATION):
            messages = json.loads(string.removeprefix(CONVERSATION))
            return prompt_ids(self.text_tokenizer, [Message(m["role"], m["content"]) for m in messages])
        if add_special_tokens is False:
            return self.text_tokenizer.encode(string)
        return prompt_ids(self.text_tokenizer, string) if string else []

    # --- requests
    def loglikelihood(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """The log-likelihood of each continuation given its context, and whether greedy decoding gives it."""
        items = [(str(context), str(continuation)) for context, continuation, *_ in _arguments(requests)]
        for text in {
            text for _, text in items if len(text.encode()) > self.max_seq_len
        }:  # before any is scored
            self._require_window(len(self.tok_encode(text, add_special_tokens=False)))
        found = self._kept("log_likelihood", items, self._score)
        self.truncated.update(
            context for (context, _), (*_, is_cut) in zip(items, found, strict=True) if is_cut
        )
        return [(value, is_greedy) for value, is_greedy, _ in found]

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of whole texts, in windows that each read as much context as fits."""
        if self.computes.has_source:
            raise UserError(
                "an encoder-decoder gives a text without a source no probability",
                "choose tasks of questions or of generated text",
            )
        texts = [str(text) for text, *_ in _arguments(requests)]
        return self._kept("rolling", texts, self._roll)

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """What follows each context, up to a stop string or the length limit."""
        seen: dict[str, int] = {}
        items: list[tuple[str, PlainSettings]] = []
        for context, settings, *_ in _arguments(requests):
            plain = self.settings(settings)
            if plain["temperature"]:  # a repeated request is another sample
                key = json.dumps([context, plain], sort_keys=True)
                seen[key] = seen.get(key, -1) + 1
                plain["seed"] = seen[key]
            items.append((context, plain))
        found = self._kept("generate", items, self._generate)
        self.truncated.update(
            context for (context, _), (_, is_cut) in zip(items, found, strict=True) if is_cut
        )
        return [text for text, _ in found]

    # --- how they are computed
    def _score(self, items: Sequence[tuple[str, str]]) -> list[tuple[float, bool, bool]]:
        contexts: dict[str, list[int]] = {}
        pairs: list[TokenPair] = []
        cut: list[bool] = []
        for context, continuation in items:
            pair = self._token_pair(context, continuation, contexts)
            pairs.append(self._fitted(*pair))
            cut.append(len(pairs[-1][0]) < len(pair[0]))
        scores = self.computes.score(pairs)
        return [(value, greedy, is_cut) for (value, greedy), is_cut in zip(scores, cut, strict=True)]

    def _token_pair(self, context: str, continuation: str, contexts: dict[str, list[int]]) -> TokenPair:
        """As `TemplateLM` encodes them, a context once."""
        if not context:
            ids = self.tok_encode(continuation, add_special_tokens=False)
            return (ids[:1], ids[1:]) if ids[:1] == [self.prefix_token_id] else ([self.prefix_token_id], ids)
        is_text = not context.startswith(CONVERSATION)
        if is_text and (stripped := context.rstrip()) != context:
            continuation, context = context[len(stripped) :] + continuation, stripped
        if context not in contexts:
            contexts[context] = self.tok_encode(context)
        before = contexts[context]
        if is_text and not self.computes.has_source:
            return before, self.tok_encode(context + continuation)[len(before) :]
        return before, self.tok_encode(continuation, add_special_tokens=False)

    def _fitted(self, context: list[int], continuation: list[int]) -> TokenPair:
        """The pair, with as much of the end of its context as the window holds."""
        self._require_window(len(continuation))
        room = self.max_seq_len if self.computes.has_source else self.max_seq_len + 1 - len(continuation)
        return context[-room:], continuation

    def _require_window(self, n_tokens: int) -> None:
        if n_tokens > self.max_seq_len:
            raise UserError(
                f"a continuation has {n_tokens} tokens, and the context window holds {self.max_seq_len}",
                "evaluate this task on a model with a larger window",
            )

    def _roll(self, texts: Sequence[str]) -> list[float]:
        windows: list[TokenPair] = []
        owners: list[int] = []
        for i, text in enumerate(texts):
            ids = self.tok_encode(text)
            for window in get_rolling_token_windows(
                ids, self.prefix_token_id, self.max_seq_len, context_len=1
            ):
                windows.append(make_disjoint_window(window))
                owners.append(i)
        sums = [0.0] * len(texts)
        for i, (value, _) in zip(owners, self.computes.score(windows), strict=True):
            sums[i] += value
        return sums

    def settings(self, given: Mapping[str, Any]) -> PlainSettings:
        """A task's settings of generated text, under Parakit's names."""
        until = given.get("until") or []
        limits = [given[name] for name in _LENGTH_LIMITS if given.get(name) is not None]
        limit = self.max_new_tokens or int(limits[0] if limits else DEFAULT_NEW_TOKENS)
        if not self.computes.has_source and limit >= self.max_seq_len:
            raise UserError(
                f"a task generates up to {limit} tokens, and the context window holds {self.max_seq_len} with the prompt",
                "lower the limit with --max-new-tokens, or evaluate it on a model with a larger window",
            )
        sampled = given.get("do_sample", given.get("temperature", 0.0) > 0)
        return {
            "stop": [until] if isinstance(until, str) else [text for text in until if text],
            "max_new_tokens": limit,
            "temperature": float(given.get("temperature", 1.0)) if sampled else 0.0,
            **({"top_p": float(given["top_p"])} if sampled and "top_p" in given else {}),
        }

    def _generate(self, items: Sequence[tuple[str, PlainSettings]]) -> list[tuple[str, bool]]:
        prompts: list[tuple[list[int], PlainSettings]] = []
        cut: list[bool] = []
        for context, settings in items:
            ids = self.tok_encode(context) or [self.prefix_token_id]
            room = self.max_seq_len - (0 if self.computes.has_source else settings["max_new_tokens"])
            prompts.append((ids[-room:], settings))
            cut.append(len(ids) > room)
        return list(zip(self.computes.generate(prompts), cut, strict=True))

    def _loglikelihood_tokens(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
        return self.computes.score([self._fitted(context, end) for _, context, end in requests])

    def _kept(
        self, kind: str, items: Sequence[Item], compute: Callable[[Sequence[Item]], Sequence[Answer]]
    ) -> list[Answer]:
        """The answers to `items`: those that the store has, and the others in blocks that it keeps as they come."""
        found: dict[int, Answer] = {} if self.answers is None else self.answers.find(kind, items)
        self._advance(len(found))
        for block in _blocks([i for i in range(len(items)) if i not in found], items):
            answers = compute([items[i] for i in block])
            if self.answers is not None:
                self.answers.keep(kind, [items[i] for i in block], answers)
            found.update(zip(block, answers, strict=True))
            self._advance(len(block))
        return [found[i] for i in range(len(items))]

    def _advance(self, n: int) -> None:
        if self.advance is not None and n:
            self.advance(n)


def _arguments(requests: Sequence[Instance]) -> Iterator[tuple[Any, ...]]:
    return (request.args for request in requests)


def _blocks(indices: Sequence[int], items: Sequence[Any]) -> Iterator[list[int]]:
    """Items in the order of their texts, so that what begins alike is computed together; a block is as long as fits in
    `BLOCK_SECONDS`, by the time that the one before it took.
    """
    ordered = sorted(indices, key=lambda i: items[i] if isinstance(items[i], str) else items[i][0])
    start, size = 0, MIN_BLOCK
    while start < len(ordered):
        began = time.monotonic()
        yield ordered[start : start + size]
        start += size
        faster = time.monotonic() - began < BLOCK_SECONDS / 2
        size = min(2 * size, MAX_BLOCK) if faster else max(size // 2, MIN_BLOCK)


def _require(token_id: int | None, name: str) -> int:
    if token_id is None:
        raise UserError(f"the tokenizer has no {name}", "the harness needs one before a text without context")
    return int(token_id)
