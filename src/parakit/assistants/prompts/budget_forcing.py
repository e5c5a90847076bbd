"""Budget forcing (Muennighoff et al. 2025, "s1", section 3.1): a model thinks for so many tokens, no more and no less.

Thinking that would end before the budget goes on after "Wait"; thinking that reaches it is closed. Then the model writes its
answer. Where the chat template marks reasoning (`<think>`), the thinking stands between its marks; else, with words after which
the prompt expects the answer, it is the reply itself, and these words close it; without them it stands between tags as text,
the plain form of training. Local models only: an endpoint takes no half reply.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parakit.assistants.prompts.prompt import PromptTemplate
from parakit.assistants.prompts.replies import PromptAnswer, PromptRequest
from parakit.common.errors import UserError

if TYPE_CHECKING:
    from parakit.inference.chat_models.local import LocalChatModel
    from parakit.inference.tool_calls.parts import SyntaxParts
    from parakit.tokens.tokenizer.tokenizer import Tokenizer

WAIT = "\nWait"
MAX_WAITS = 8


@dataclass(frozen=True)
class ThinkingMarks:
    """The ids that open and close thinking, those that end it when the model writes them, and the words of a closing mark that
    is text.
    """

    opening: tuple[int, ...]
    closing: tuple[int, ...]
    ends: frozenset[int]
    closing_text: str = ""


def thinking_marks(tokenizer: Tokenizer, prompt: PromptTemplate) -> ThinkingMarks:
    """How a model's thinking is opened and closed."""
    from parakit.inference.tool_calls.reasoning import reasoning_syntax
    from parakit.tokens.chat.rendering import response_frame
    from parakit.tokens.chat.template import stop_ids

    stops = frozenset(stop_ids(tokenizer))
    syntax = reasoning_syntax(tokenizer)
    places = (tokenizer.chat_template or "", tokenizer.special_tokens)
    if any(syntax.opening_text and syntax.opening_text in place for place in places):
        controls = frozenset(part for part in syntax.closing if isinstance(part, int))
        opening = () if syntax.is_opened else _ids(tokenizer, syntax.opening)
        text = "" if controls else syntax.closing_text
        return ThinkingMarks(opening, _ids(tokenizer, syntax.closing), stops | controls, text)
    if prompt.answer_after is None:
        encode = (tokenizer.continuation_encoder or tokenizer).encode
        opening_ids = tuple(encode(f"{response_frame(tokenizer).lead}{syntax.opening_text}\n"))
        closing_ids = tuple(encode(f"\n{syntax.closing_text}\n\n"))
        return ThinkingMarks(opening_ids, closing_ids, stops, f"\n{syntax.closing_text}")
    return ThinkingMarks((), tuple(tokenizer.encode(f"\n{prompt.answer_after}")), stops)


def _ids(tokenizer: Tokenizer, parts: SyntaxParts) -> tuple[int, ...]:
    ids: list[int] = []
    for part in parts:
        ids += [part] if isinstance(part, int) else tokenizer.encode(part or "")
    return tuple(ids)


def answer_with_budget(
    model: LocalChatModel,
    prompt: PromptTemplate,
    requests: Sequence[PromptRequest],
    budget: int,
    answer_tokens: int = 32,
) -> list[PromptAnswer]:
    """The answers after exactly `budget` tokens of thinking, or as many as the context window holds. "Wait" is added
    `MAX_WAITS` times at most. `UserError` for a prompt with followups.
    """
    from parakit.inference.generation.text import prompt_ids

    if prompt.followups:
        raise UserError(f"{prompt.name}: has followups, and a budget is of one reply", "take another prompt")
    marks, tokenizer = thinking_marks(model.tokenizer, prompt), model.tokenizer
    prompts = [[*prompt_ids(tokenizer, request.messages(prompt)), *marks.opening] for request in requests]
    window = model.model.config.max_seq_len
    limits = [min(budget, window - len(ids) - len(marks.closing) - answer_tokens) for ids in prompts]
    fitting = [i for i, limit in enumerate(limits) if limit > 0]
    seeds = [request.seed for request in requests]
    thoughts = _think(
        model,
        prompt,
        [prompts[i] for i in fitting],
        [limits[i] for i in fitting],
        marks,
        [seeds[i] for i in fitting],
    )
    heads = [[*prompts[i], *thought, *marks.closing] for i, thought in zip(fitting, thoughts, strict=True)]
    written = _continue(model, prompt, heads, answer_tokens, marks.ends, [seeds[i] for i in fitting])
    found = [PromptAnswer(None, None, "", len(ids), 0, False) for ids in prompts]
    for i, thought, ids in zip(fitting, thoughts, written, strict=True):
        reply = tokenizer.decode([one for one in ids if one not in marks.ends]).strip()
        thinking = tokenizer.decode(thought).strip()
        whole = (
            reply
            if marks.opening or not prompt.answer_after
            else f"{thinking}\n{prompt.answer_after} {reply}"
        )
        n_new = len(thought) + len(marks.closing) + len(ids)
        found[i] = PromptAnswer(prompt.answer_in(whole), whole, thinking, len(prompts[i]), n_new, False)
    return found


def _think(
    model: LocalChatModel,
    prompt: PromptTemplate,
    prompts: Sequence[Sequence[int]],
    limits: Sequence[int],
    marks: ThinkingMarks,
    seeds: Sequence[int],
) -> list[list[int]]:
    """The thoughts, each as long as its limit unless the model ends more than `MAX_WAITS` times."""
    wait = model.tokenizer.encode(WAIT)
    thoughts: list[list[int]] = [[] for _ in prompts]
    for turn in range(MAX_WAITS + 1):
        going = [i for i, thought in enumerate(thoughts) if len(thought) < limits[i]]
        if not going:
            break
        if turn:
            for i in going:
                thoughts[i] = [*thoughts[i], *wait][: limits[i]]
        heads = [[*prompts[i], *thoughts[i]] for i in going]
        most = max(limits[i] - len(thoughts[i]) for i in going)
        if most < 1:
            break
        written = _continue(
            model, prompt, heads, most, marks.ends, [seeds[i] + turn for i in going], marks.closing_text
        )
        for i, ids in zip(going, written, strict=True):
            own = [one for one in ids if one not in marks.ends]
            thoughts[i] = [*thoughts[i], *own][: limits[i]]
    return thoughts


def _continue(
    model: LocalChatModel,
    prompt: PromptTemplate,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    ends: frozenset[int],
    seeds: Sequence[int],
    closing_text: str = "",
) -> list[list[int]]:
    """The ids that the model writes; a closing mark that is text is removed."""
    from parakit.inference.config import SamplingConfig
    from parakit.inference.generation.decoding import generate_ids
    from parakit.inference.generation.published_rules import generation_rules
    from parakit.inference.generation.text_stream import StopStringCheck

    config = SamplingConfig(temperature=prompt.settings.temperature, max_new_tokens=max_new_tokens)
    check = StopStringCheck(model.tokenizer, (closing_text,)) if closing_text else None
    rules = generation_rules(model.model, model.tokenizer)
    written = generate_ids(model.model, prompts, config, ends, seeds=seeds, stop_check=check, rules=rules)
    if not closing_text:
        return written
    texts = [model.tokenizer.decode(ids) for ids in written]
    return [
        model.tokenizer.encode(text.partition(closing_text)[0]) if closing_text in text else ids
        for ids, text in zip(written, texts, strict=True)
    ]
