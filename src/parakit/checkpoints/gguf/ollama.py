"""An Ollama `Modelfile` for a GGUF file: where the weights are, how a completion ends, the context, and sampling.

Ollama does not run the chat template in the file (jinja): it knows a few published ones by their text, and otherwise needs
one in Go's template language. That is written where it can be derived: where the template puts the same text around each
message of a role, whatever else is in the conversation, which is checked by rendering conversations. Otherwise a comment
in the file gives the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parakit.common.errors import UserError
from parakit.common.files import write_text_atomic
from parakit.tokens.chat.rendering import read_turns, render
from parakit.tokens.chat.template import stop_ids
from parakit.tokens.tokenizer.special_tokens_template import text_boundaries
from parakit.tokens.tokenizer.tokenizer import Tokenizer

MAX_CONTEXT = 8192  # a longer context is allocated whole, and is better chosen by the user
# Parakit's setting -> Ollama's parameter
_PARAMETERS = {
    **{name: name for name in ("temperature", "top_k", "top_p", "min_p")},
    **{"repetition_penalty": "repeat_penalty", "max_new_tokens": "num_predict"},
}
_CONTENT = " content\nof it "  # a template that trims is found out
_Turns = Sequence[tuple[str, str]]
_TRIALS: tuple[_Turns, ...] = (
    [("user", "a"), ("assistant", " b "), ("user", "c\n")],
    [("system", "s"), ("user", "a")],
    [("system", " s\n"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")],
)


def write_modelfile(
    file: Path,
    tokenizer: Tokenizer,
    max_seq_len: int,
    sampling: Mapping[str, Any],
    with_template: bool,
) -> Path:
    """Write `NAME.Modelfile` next to the GGUF file `NAME.gguf`; `sampling` under Parakit's names."""
    path = file.with_suffix(".Modelfile")
    lines = [f"# ollama create {file.stem.lower()} -f {path.name}", f"FROM ./{file.name}"]
    lines.append(f"PARAMETER num_ctx {min(max_seq_len, MAX_CONTEXT)}")
    stops = [tokenizer.token(i) for i in stop_ids(tokenizer) if i < tokenizer.vocab_size]
    stops += list(sampling.get("stop") or ())
    lines += [f"PARAMETER stop {_quoted(stop)}" for stop in stops]
    lines += [f"PARAMETER {name} {sampling[key]}" for key, name in _PARAMETERS.items() if key in sampling]
    if not with_template:
        lines += [
            "# The model was not tuned on conversations: it continues a text.",
            'TEMPLATE """{{ .Prompt }}"""',
        ]
    else:
        lines += _template_lines(tokenizer)
    write_text_atomic(path, "\n".join(lines) + "\n")
    return path


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _template_lines(tokenizer: Tokenizer) -> list[str]:
    try:
        derived = go_template(tokenizer)
    except UserError as error:
        reason = error.message.splitlines()[0]
        return [
            f"# No TEMPLATE: {reason}.",
            "# Ollama then uses one of its own that fits the template in the GGUF file, if it has one: check an answer.",
        ]
    template, system = derived
    lines = [f'TEMPLATE """{template}"""']
    return lines if system is None else [*lines, f'SYSTEM """{system}"""']


def go_template(tokenizer: Tokenizer) -> tuple[str, str | None]:
    """The chat template in Go's language, and the system message that it adds where a conversation has none. Raises
    `UserError` with the reason where it cannot be derived.
    """
    prompt = _suffix(_text(tokenizer, [("user", "a")], True), _text(tokenizer, [("user", "a")]))
    around = {}
    for role in ("system", "user", "assistant"):
        turns = [("system", "s")] if role != "system" else []
        before = _text(tokenizer, turns) if turns else ""
        text = _suffix(_text(tokenizer, [*turns, (role, _CONTENT)]), before)
        opening, found, closing = text.partition(_CONTENT)
        if not found:
            raise UserError(f"the chat template changes the content of a message of the role {role}")
        around[role] = opening, closing
    bos = tokenizer.special.strings.get("bos", "")  # before a conversation, unless it is before every message
    opening, closing = around["system"]
    start = bos if opening.startswith(bos) and not around["user"][0].startswith(bos) else ""
    around["system"] = opening.removeprefix(start), closing
    system = _default_system(tokenizer, start, around)
    for trial in _TRIALS:
        whole = trial if trial[0][0] == "system" or system is None else [("system", system), *trial]
        rebuilt = (
            start + "".join(f"{around[role][0]}{text}{around[role][1]}" for role, text in whole) + prompt
        )
        if rebuilt != _text(tokenizer, trial, True):
            raise UserError("what the chat template puts around a message depends on the others")
    if text_boundaries(tokenizer)[0]:  # the program puts BOS in front
        start = ""
    pieces = [start, prompt, system or "", *(part for pair in around.values() for part in pair)]
    if any(mark in piece for piece in pieces for mark in ("{{", "}}", '"""')):
        raise UserError("the chat template contains marks of Go's template language")
    cases = "{{ else ".join(
        f'if eq .Role "{role}" }}}}{opening}{{{{ .Content }}}}{closing}'
        for role, (opening, closing) in around.items()
    )
    return f"{start}{{{{ range .Messages }}}}{{{{ {cases}{{{{ end }}}}{{{{ end }}}}{prompt}", system


def _default_system(tokenizer: Tokenizer, start: str, around: Mapping[str, tuple[str, str]]) -> str | None:
    """What a conversation without a system message begins with, as a system message."""
    text = _text(tokenizer, [("user", "a")]).removeprefix(start)
    user, system = around["user"], around["system"]
    added = text.removesuffix(f"{user[0]}a{user[1]}")
    if not added:
        return None
    inner = added.removeprefix(system[0]).removesuffix(system[1])
    if f"{system[0]}{inner}{system[1]}" != added:
        raise UserError("the chat template begins a conversation with more than a system message")
    return inner


def _text(tokenizer: Tokenizer, turns: _Turns, opened: bool = False) -> str:
    messages = read_turns([{"role": role, "content": content} for role, content in turns]).messages
    return render(tokenizer, messages, opened, None).text


def _suffix(text: str, before: str) -> str:
    if not text.startswith(before):
        raise UserError("the chat template changes earlier messages when one is added")
    return text.removeprefix(before)
