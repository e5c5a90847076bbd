"""A conversation becomes ids here and nowhere else: training, evaluation, chat, server and export agree.

The jinja template is rendered twice, with the real contents and with unguessable placeholders in their place.
The placeholders tell which characters the template wrote and which the user; the real rendering proves that
putting the contents where the placeholders stand gives what the template means (trimming is followed, any
other change of the text is refused). Control tokens are then looked for in the template's own characters
alone, and all text between two of them is encoded with special tokens off: no content can forge one. On
ordinary text the ids equal those of transformers' `apply_chat_template`.

Our own template puts a space before every content: a word then has the token that it has within a text, which
pre-training knows, and not that of a line's first word (docs/decisions/0012). What a template writes between the
generation prompt and the answer is for the model to say: it counts, and it is taken off what was generated.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from parakit.common.errors import UserError
from parakit.tokens.chat.template_sandbox import TemplateError, TemplateWorker, render_all
from parakit.tokens.tokenizer.fast_encoding import fix_surrogates
from parakit.tokens.tokenizer.special_tokens import END_OF_TURN, ROLES, TURN_MARKERS
from parakit.tokens.tokenizer.tokenizer import Tokenizer

_MARKER_OF_ROLE = "{" + ", ".join(f"'{role}': '{TURN_MARKERS[role]}'" for role in ROLES) + "}"
CHAT_TEMPLATE = (
    "{{- bos_token -}}"
    "{%- for message in messages -%}"
    f"{{{{- {_MARKER_OF_ROLE}[message['role']] -}}}}"
    "{{- ' ' + message['content'] -}}"
    f"{{{{- '{TURN_MARKERS[END_OF_TURN]}' -}}}}"
    "{%- endfor -%}"
    f"{{%- if add_generation_prompt -%}}{{{{- '{TURN_MARKERS['assistant']}' -}}}}{{%- endif -%}}"
)
_NONCE = secrets.token_hex(16)
_PLACEHOLDER = re.compile(f"{_NONCE}x([0-9]+)x")
_VARIANTS: tuple[Callable[[str], str], ...] = (str, str.strip, str.rstrip, str.lstrip)


@dataclass
class ChatIds:
    """`token_ids` of a conversation; `loss_mask[i]` is True where an assistant says token i or ends its turn
    with it.
    """

    token_ids: list[int] = field(default_factory=list)
    loss_mask: list[bool] = field(default_factory=list)


@dataclass(frozen=True)
class _Piece:
    """A stretch of the rendered conversation."""

    text: str
    is_content: bool
    counted: bool = False


def compile_chat(tokenizer: Tokenizer, messages: Any, add_generation_prompt: bool = False) -> ChatIds:
    """Ids and loss mask of a conversation (a `Conversation`, or messages as objects or mappings of role and
    content).

    With `add_generation_prompt` the assistant's turn is opened at the end. Raises `UserError` for an unknown
    role, content that is no text, a tokenizer without a chat template, or a template that fails, loops or
    alters text.
    """
    turns, counted = _turns(messages)
    pieces = _pieces(tokenizer, turns, counted, add_generation_prompt)
    chat = ChatIds()
    run: list[_Piece] = []
    ends_turn = False  # an assistant's content is behind us, and the token that ends its turn is not
    for piece in _cut_at_control(tokenizer, pieces):
        if isinstance(piece, _Piece):
            run.append(piece)
            ends_turn = piece.counted if piece.is_content else ends_turn
            continue
        _append_text(tokenizer, chat, run)
        run = []
        chat.token_ids.append(piece)
        chat.loss_mask.append(ends_turn)
        ends_turn = False
    _append_text(tokenizer, chat, run)
    bos_id = tokenizer.bos_id
    if bos_id is not None and bos_id != tokenizer.eos_id and chat.token_ids[:2] == [bos_id, bos_id]:
        raise UserError(
            "the chat template begins a conversation with two BOS tokens", "remove one from the template"
        )
    return chat


def end_of_turn_id(tokenizer: Tokenizer) -> int | None:
    """The control token with which an assistant's turn ends, or None where the template has none."""
    if tokenizer.chat_template is None:
        return None
    chat = compile_chat(tokenizer, [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    ends = [
        i
        for i, counts in zip(chat.token_ids, chat.loss_mask, strict=True)
        if counts and i in tokenizer.control_ids
    ]
    return ends[-1] if ends else None


def response_prefix(tokenizer: Tokenizer) -> str:
    """What the template writes between the generation prompt and an answer (a space in ours, often nothing), as it
    stands in the answer's decoded tokens; "" without a template.
    """
    lead = _lead(tokenizer)
    if not lead:
        return ""
    encode = (tokenizer.continuation_encoder or tokenizer).encode
    return tokenizer.decode(encode(f"{lead}a")).removesuffix("a")


def response_text(tokenizer: Tokenizer, token_ids: Iterable[int]) -> str:
    """The text of generated ids as a message's content: without what the template writes before it."""
    return tokenizer.decode(token_ids).removeprefix(response_prefix(tokenizer))


def stop_ids(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Ids at which generation ends: EOS and the end of an assistant's turn."""
    return tuple(dict.fromkeys(i for i in (tokenizer.eos_id, end_of_turn_id(tokenizer)) if i is not None))


def _turns(messages: Any) -> tuple[list[dict[str, str]], list[bool]]:
    """Messages as plain mappings, checked, and which of them are learned: an assistant's, but for those of weight 0.
    Roles come from a closed list: they reach the template as they are.
    """
    turns, counted = [], []
    for number, message in enumerate(getattr(messages, "messages", messages), 1):
        get = message.get if isinstance(message, Mapping) else lambda key, m=message: getattr(m, key, None)
        role, content = get("role"), get("content")
        if role not in ROLES:
            raise UserError(f"message {number}: unknown role {role!r}", f"roles are {', '.join(ROLES)}")
        if not isinstance(content, str):
            raise UserError(
                f"message {number}: content is {type(content).__name__}, not text", "give a string"
            )
        turns.append({"role": role, "content": fix_surrogates(content)})
        counted.append(role == "assistant" and get("weight") != 0)
    if not turns:
        raise UserError("a conversation without messages", "give at least one message")
    return turns, counted


@lru_cache(maxsize=8)
def _renderer(template: str) -> Callable[[Sequence[Mapping[str, Any]]], list[str]]:
    """Our own template is rendered here, a foreign one in a child process that can be stopped."""
    if template == CHAT_TEMPLATE:
        return lambda contexts: render_all(template, contexts)
    return TemplateWorker(template).render_all


def _lead(tokenizer: Tokenizer) -> str:
    """The template's own text, control tokens aside, between the generation prompt and an answer."""
    if tokenizer.chat_template is None:
        return ""
    return _lead_of(
        tokenizer.chat_template, tuple(tokenizer.special.strings.items()), tokenizer.control_pattern
    )


def _shared(forms: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """What every rendering is told beside the messages: the special tokens, and that there are no tools."""
    return {"tools": None, "documents": None, **{f"{purpose}_token": form for purpose, form in forms}}


@lru_cache(maxsize=8)
def _lead_of(template: str, forms: tuple[tuple[str, str], ...], control: re.Pattern[str] | None) -> str:
    asked = [{"role": "user", "content": "a"}]
    answered = [*asked, {"role": "assistant", "content": f"{_NONCE}x1x"}]
    shared = _shared(forms)
    try:
        prompt, whole = _renderer(template)(
            [
                {"messages": asked, "add_generation_prompt": True, **shared},
                {"messages": answered, "add_generation_prompt": False, **shared},
            ]
        )
    except TemplateError:
        return ""  # where the template is used it says what is wrong
    before = _PLACEHOLDER.split(whole)[0]
    lead = before.removeprefix(prompt) if before.startswith(prompt) else ""
    return "" if control is not None and control.search(lead) else lead


def _pieces(
    tokenizer: Tokenizer, turns: list[dict[str, str]], counted: list[bool], add_generation_prompt: bool
) -> list[_Piece]:
    """What the template makes of the conversation, cut into its own text and the contents."""
    if tokenizer.chat_template is None:
        raise UserError(
            "this tokenizer has no chat template",
            "use a tokenizer that parakit trained, or add chat_template.jinja",
        )
    shared = {"add_generation_prompt": add_generation_prompt, **_shared(tokenizer.special.strings.items())}
    hidden = [turn | {"content": f"{_NONCE}x{i}x"} for i, turn in enumerate(turns)]
    try:
        real, masked = _renderer(tokenizer.chat_template)(
            [{"messages": m, **shared} for m in (turns, hidden)]
        )
    except TemplateError as error:
        raise UserError(
            f"the chat template cannot be used: {error}", "use another chat_template.jinja"
        ) from None
    parts = _PLACEHOLDER.split(masked)  # own text, content number, own text, ...
    pieces, place = [_Piece(parts[0], False)], len(parts[0])
    fits, lead = real.startswith(parts[0]), _lead(tokenizer)
    for number, following in zip(map(int, parts[1::2]), parts[2::2], strict=True):
        content = turns[number]["content"]
        options = (variant(content) for variant in _VARIANTS)
        chosen = next((text for text in options if real.startswith(text + following, place)), None)
        if chosen is None:
            fits = False
            break
        if counted[number] and lead and pieces[-1].text.endswith(lead):
            pieces[-1:] = [_Piece(pieces[-1].text.removesuffix(lead), False), _Piece(lead, False, True)]
        pieces += [_Piece(chosen, True, counted[number]), _Piece(following, False)]
        place += len(chosen) + len(following)
    if not fits or place != len(real):
        raise UserError(
            "the chat template alters the text of a message, so its ids cannot be trusted",
            "use a template that inserts contents as they are (trimming is understood)",
        )
    return [piece for piece in pieces if piece.text or piece.is_content]


def _cut_at_control(tokenizer: Tokenizer, pieces: list[_Piece]) -> list[_Piece | int]:
    """The template's own text cut at control tokens, which become ids. Contents are passed through unread."""
    pattern, ids = tokenizer.control_pattern, tokenizer.special_tokens
    cut: list[_Piece | int] = []
    for piece in pieces:
        if piece.is_content or pattern is None:
            cut.append(piece)
            continue
        for part in pattern.split(piece.text):
            if part:
                cut.append(ids[part] if part in ids else _Piece(part, False, piece.counted))
    return cut


def _append_text(tokenizer: Tokenizer, chat: ChatIds, run: list[_Piece]) -> None:
    """Encode the text between two control tokens as one, as transformers does; specials are off."""
    inside = tokenizer.continuation_encoder if chat.token_ids else None
    if len({piece.counted for piece in run}) < 2:
        encode = (inside or tokenizer).encode
        token_ids = encode("".join(piece.text for piece in run)) if run else []
        chat.token_ids += token_ids
        chat.loss_mask += [bool(run) and run[0].counted] * len(token_ids)
        return
    token_ids, spans = (inside or tokenizer.plain).spans("".join(piece.text for piece in run))
    edges, place = [], 0
    for piece in run:
        edges.append((place, place + len(piece.text), piece.counted))
        place += len(piece.text)
    chat.token_ids += token_ids
    chat.loss_mask += [
        any(c and begin < high and low < end for begin, end, c in edges) for low, high in spans
    ]
