"""A model as lm-eval sees one: log-likelihoods, rolling log-likelihoods and generated text.

Contexts and continuations are encoded as lm-eval's transformers model encodes them, so that its scores are the same. A
conversation is compiled to ids by the model's chat template, and text in it never becomes a control token. What is computed
is kept in an `AnswerStore`, if there is one: a run that was interrupted resumes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from parakit.common.errors import UserError
from parakit.common.progress import OnProgress
from parakit.data.conversations.conversation import Message
from parakit.evaluation.harness.answers import AnswerStore
from parakit.inference.batching import evaluation_mode
from parakit.inference.capabilities import require_capability
from parakit.inference.config import SamplingConfig
from parakit.inference.engine import Engine, Request
from parakit.inference.engine.scoring import score_continuations
from parakit.inference.generation.completion import prompt_ids
from parakit.model.heads import LanguageModel
from parakit.tokens.tokenizer.tokenizer import Tokenizer

BLOCK = 2048  # requests that are computed, and kept, together
CONVERSATION = (
    "\N{SYMBOL FOR START OF TEXT}parakit-conversation "  # a conversation on its way through the harness
)
DEFAULT_NEW_TOKENS = 256

Score = tuple[float, bool]
Item = TypeVar("Item")
Answer = TypeVar("Answer")
TokenPair = tuple[list[int], list[int]]


class HarnessModel(TemplateLM):  # type: ignore[misc]  # lm-eval has no types
    """A loaded decoder and its tokenizer."""

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        *,
        name: str = "",
        answers: AnswerStore | None = None,
        advance: OnProgress | None = None,
    ) -> None:
        super().__init__()
        require_capability(model, "log_likelihood")
        self.model, self.text_tokenizer, self.name = model, tokenizer, name
        self.answers, self.advance = answers, advance
        self.max_length = model.config.max_seq_len
        self.n_truncated = 0
        """Requests of which the beginning was left out, because they were longer than the context window."""

    # --- what the harness looks at
    @property
    def eot_token_id(self) -> int:
        """What ends a text."""
        return _require(self.text_tokenizer.eos_id, "EOS")

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text whose every token counts."""
        bos = self.text_tokenizer.bos_id
        return self.eot_token_id if bos is None else int(bos)

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

    def _encode_pair(self, context: str, continuation: str) -> TokenPair:
        if context.startswith(CONVERSATION):
            return self.tok_encode(context), self.text_tokenizer.encode(continuation)
        pair: TokenPair = super()._encode_pair(context, continuation)
        return pair

    # --- requests
    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]], **_: Any
    ) -> list[Score]:
        pairs = [self._fitted(context, continuation) for _, context, continuation in requests]
        return self._kept("log_likelihood", pairs, self._scores)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of whole texts, in windows that each read as much context as fits."""
        windows: list[TokenPair] = []
        texts: list[int] = []
        for i, request in enumerate(requests):
            ids = self.tok_encode(request.args[0])
            for window in get_rolling_token_windows(
                ids, self.prefix_token_id, self.max_length, context_len=1
            ):
                windows.append(make_disjoint_window(window))
                texts.append(i)
        sums = [0.0] * len(requests)
        for i, (value, _) in zip(texts, self._kept("log_likelihood", windows, self._scores), strict=True):
            sums[i] += value
        return sums

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """What follows each context, up to a stop string or the length limit."""
        items = [self._generation(*request.args) for request in requests]
        return self._kept("generate", items, self._texts)

    # --- how they are computed
    def _fitted(self, context: Sequence[int], continuation: Sequence[int]) -> TokenPair:
        """The pair, with as much of the end of its context as the window holds."""
        if len(continuation) > self.max_length:
            raise UserError(
                f"a continuation has {len(continuation)} tokens, and the context window holds {self.max_length}",
                "evaluate this task on a model with a larger window",
            )
        room = self.max_length + 1 - len(continuation)
        self.n_truncated += len(context) > room
        return list(context)[-room:], list(continuation)

    def _scores(self, pairs: Sequence[TokenPair]) -> list[Score]:
        found = score_continuations(self.model, pairs)
        return [(sum(score.log_probs), score.is_greedy) for score in found]

    def _generation(self, context: str, settings: Mapping[str, Any]) -> tuple[list[int], dict[str, Any]]:
        """The ids of a context, and the settings of its completion."""
        until = settings.get("until") or []
        stop = [until] if isinstance(until, str) else [text for text in until if text]
        max_new_tokens = int(settings.get("max_gen_toks", DEFAULT_NEW_TOKENS))
        room = self.max_length - max_new_tokens
        if room < 1:
            raise UserError(
                f"a task asks for {max_new_tokens} new tokens, and the context window holds {self.max_length}",
                "set max_new_tokens, or evaluate it on a model with a larger window",
            )
        ids = self.tok_encode(context)
        self.n_truncated += len(ids) > room
        sampled = settings.get("do_sample", settings.get("temperature", 0.0) > 0)
        return ids[-room:], {
            "stop": stop,
            "max_new_tokens": max_new_tokens,
            "temperature": float(settings.get("temperature", 1.0)) if sampled else 0.0,
            **({"top_p": float(settings["top_p"])} if sampled and "top_p" in settings else {}),
        }

    def _texts(self, items: Sequence[tuple[list[int], dict[str, Any]]]) -> list[str]:
        engine = Engine(self.model, self.text_tokenizer)
        handles = [
            engine.submit(Request(token_ids=ids, sampling=SamplingConfig.parse(settings), seed=number))
            for number, (ids, settings) in enumerate(items)
        ]
        with evaluation_mode(self.model):
            engine.run()
        return [handle.completions[0].text for handle in handles]

    def _kept(
        self, kind: str, items: Sequence[Item], compute: Callable[[Sequence[Item]], list[Answer]]
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


def _blocks(indices: Sequence[int], items: Sequence[Any]) -> Iterator[list[int]]:
    """Items in the order of their tokens: what begins alike is computed together."""
    ordered = sorted(indices, key=lambda i: items[i][0])
    for start in range(0, len(ordered), BLOCK):
        yield ordered[start : start + BLOCK]


def _require(token_id: int | None, name: str) -> int:
    if token_id is None:
        raise UserError(f"the tokenizer has no {name}", "the harness needs one before a text without context")
    return int(token_id)
