"""Runs a prompt on items: conversations to a model, replies back, with the tokens that each cost.

A local model's replies are written in batches, and its tokens are counted exactly; an endpoint's are those that it reports,
or an estimate where it reports none. Reasoning that a model writes before its answer (`<think>`) is taken apart and counts
as tokens, not as answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from parakit.assistants.prompts.items import PromptItem
from parakit.assistants.prompts.prompt import PromptTemplate, ReplySettings, render
from parakit.common.files import JsonObject
from parakit.common.progress import OnProgress
from parakit.common.seeds import derive_seed
from parakit.data.conversations.messages import Message
from parakit.inference.chat_models.chat_model import estimated_tokens

if TYPE_CHECKING:
    from parakit.inference.chat_models.chat_model import ChatModel
    from parakit.inference.chat_models.local import LocalChatModel
    from parakit.inference.chat_models.openai import OpenAIChatModel

PromptMessages = tuple[Message, ...]


@dataclass(frozen=True)
class WrittenReply:
    """What a model wrote. `text` is None where the conversation does not fit into the context window. `is_cut`: it ended at
    the length limit.
    """

    text: str | None
    reasoning: str = ""
    n_prompt_tokens: int = 0
    n_new_tokens: int = 0
    is_cut: bool = False


@dataclass(frozen=True)
class PromptAnswer:
    """The answer to one item. `answer` is None where the conversation is too long, or the reply lacks the prompt's output form.
    Tokens are those of all turns together.
    """

    answer: str | None
    reply: str | None
    reasoning: str
    n_prompt_tokens: int
    n_new_tokens: int
    is_cut: bool

    def to_json(self) -> JsonObject:
        """Plain values."""
        return dict(vars(self))


@dataclass(frozen=True)
class PromptRequest:
    """One item with the examples that its prompt shows, and the seed of what is sampled."""

    item: PromptItem
    examples: tuple[dict[str, Any], ...] = ()
    seed: int = 0

    def messages(self, prompt: PromptTemplate) -> PromptMessages:
        """The conversation before the first reply."""
        return prompt.messages(self.item.fields, self.examples)


def requests_of(
    items: Sequence[PromptItem], examples: Sequence[tuple[dict[str, Any], ...]] = (), seed: int = 0
) -> list[PromptRequest]:
    """A request for each item."""
    shown = examples or [()] * len(items)
    return [
        PromptRequest(item, some, derive_seed(seed, "prompt", item.id) % 2**62)
        for item, some in zip(items, shown, strict=True)
    ]


def run_prompt(
    model: ChatModel,
    prompt: PromptTemplate,
    requests: Sequence[PromptRequest],
    on_progress: OnProgress | None = None,
) -> list[PromptAnswer]:
    """The answers of a model to requests, in their order."""
    conversations = [request.messages(prompt) for request in requests]
    seeds = [request.seed for request in requests]
    open_schema = prompt.settings.replace(json_schema=None)
    turns: list[list[WrittenReply]] = [[] for _ in requests]
    for number in range(1 + len(prompt.followups)):
        is_last = number == len(prompt.followups)
        settings = prompt.settings if is_last else open_schema
        going = [i for i, replies in enumerate(turns) if not replies or replies[-1].text is not None]
        now = [seeds[i] + number for i in going]
        written = write_replies(model, [conversations[i] for i in going], settings, now)
        for i, reply in zip(going, written, strict=True):
            turns[i].append(reply)
            if not is_last and reply.text is not None:
                values = {**prompt.values, **requests[i].item.fields}
                followup = Message("user", render(prompt.followups[number], values))
                conversations[i] = (*conversations[i], Message("assistant", reply.text), followup)
    if on_progress is not None:
        on_progress(len(requests))
    return [_answer(prompt, replies) for replies in turns]


def _answer(prompt: PromptTemplate, replies: Sequence[WrittenReply]) -> PromptAnswer:
    last = replies[-1]
    return PromptAnswer(
        None if last.text is None else prompt.answer_in(last.text),
        last.text,
        last.reasoning,
        sum(one.n_prompt_tokens for one in replies),
        sum(one.n_new_tokens for one in replies),
        any(one.is_cut for one in replies),
    )


def write_replies(
    model: ChatModel, conversations: Sequence[PromptMessages], settings: ReplySettings, seeds: Sequence[int]
) -> list[WrittenReply]:
    """A reply to each conversation."""
    from parakit.inference.chat_models.local import LocalChatModel
    from parakit.inference.chat_models.openai import OpenAIChatModel

    if not conversations:
        return []
    if isinstance(model, LocalChatModel):
        return _local(model, conversations, settings, seeds)
    if isinstance(model, OpenAIChatModel):
        return _endpoint(model, conversations, settings, seeds)
    texts = model.generate(
        conversations, max_new_tokens=settings.max_new_tokens, temperature=settings.temperature, seeds=seeds
    )
    return [_estimated(messages, text) for messages, text in zip(conversations, texts, strict=True)]


def _local(
    model: LocalChatModel,
    conversations: Sequence[PromptMessages],
    settings: ReplySettings,
    seeds: Sequence[int],
) -> list[WrittenReply]:
    from parakit.inference.config import SamplingConfig
    from parakit.inference.generation.text import generate_batch, prompt_ids
    from parakit.inference.tool_calls.replies import read_reply

    config = SamplingConfig(
        temperature=settings.temperature,
        max_new_tokens=settings.max_new_tokens,
        json_schema=settings.json_schema,
    )
    lengths = [len(prompt_ids(model.tokenizer, messages)) for messages in conversations]
    window = model.model.config.max_seq_len
    rows = [i for i, length in enumerate(lengths) if length < window]
    found = [WrittenReply(None, n_prompt_tokens=length) for length in lengths]
    written = generate_batch(
        model.model, model.tokenizer, [conversations[i] for i in rows], config, seeds=[seeds[i] for i in rows]
    )
    for i, one in zip(rows, written, strict=True):
        reply = read_reply(model.tokenizer, one.token_ids)
        text = reply.text if reply.reasoning else one.text
        found[i] = WrittenReply(
            text.strip(), reply.reasoning, one.n_prompt_tokens, one.n_tokens, one.finish_reason == "length"
        )
    return found


def _endpoint(
    model: OpenAIChatModel,
    conversations: Sequence[PromptMessages],
    settings: ReplySettings,
    seeds: Sequence[int],
) -> list[WrittenReply]:
    from parakit.inference.chat_models.openai_stream import AnswerPiece, stream_answer
    from parakit.inference.config import SamplingSettings

    _ = model.model  # one request, before the concurrent ones

    def one(number: int) -> WrittenReply:
        pieces: list[AnswerPiece] = []

        def keep(piece: AnswerPiece) -> bool:
            pieces.append(piece)
            return True

        sampling = SamplingSettings(
            max_new_tokens=settings.max_new_tokens, temperature=settings.temperature, seed=seeds[number]
        )
        stream_answer(model, conversations[number], sampling, keep)
        reply = WrittenReply(
            "".join(piece.text for piece in pieces).strip(),
            "".join(piece.reasoning for piece in pieces).strip(),
            max((piece.n_prompt_tokens for piece in pieces), default=0),
            max((piece.n_completion_tokens for piece in pieces), default=0),
            any(piece.finish_reason == "length" for piece in pieces),
        )
        counted = _estimated(conversations[number], f"{reply.reasoning}{reply.text}")
        return replace(
            reply,
            n_prompt_tokens=reply.n_prompt_tokens or counted.n_prompt_tokens,
            n_new_tokens=reply.n_new_tokens or counted.n_new_tokens,
        )

    return model.concurrently(one, len(conversations))


def _estimated(messages: PromptMessages, text: str | None) -> WrittenReply:
    """A reply whose tokens are estimated from its bytes, as those of a model whose tokenizer is not known."""
    n_new = 0 if text is None else estimated_tokens([Message("assistant", text)])
    return WrittenReply(text, "", estimated_tokens(messages), n_new)
