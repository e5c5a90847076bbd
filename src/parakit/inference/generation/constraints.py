"""Constrained output: completions that match a JSON schema, a regular expression or a grammar, through llguidance.

A constraint leaves, at each step, every token after which the text can still become a valid one, and the stop ids where the
text is valid. A grammar is first compiled in a child process with limits of time, memory and stack, because some explode;
then its own limits bound each step. Control tokens are never part of the text, whatever a request's grammar names; only
Parakit's own grammars (`compile_grammars`, for the calls of tools) may have some. The stop strings and `max_new_tokens` of a
request still end a completion: such a text may be incomplete.

Shapes: V vocabulary.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.inference.config import MAX_CONSTRAINT, SamplingConfig
from parakit.inference.generation.constraint_vocabulary import (
    ConstraintVocabulary,
    constraint_vocabulary,
    import_llguidance,
)
from parakit.tokens.chat.template import stop_ids
from parakit.tokens.tokenizer.fast_encoding import fix_surrogates
from parakit.tokens.tokenizer.tokenizer import Tokenizer

MAX_GRAMMAR_CHARS = MAX_CONSTRAINT + 1024
TRIAL_CPU_SECONDS = 1  # so that both compilations take 2 s at most
TRIAL_SECONDS = 10.0  # of the clock: on a busy machine the child waits for a core
TRIAL_BYTES = 1 << 30
LIMITS = {"max_lexer_states": 50_000, "step_max_items": 20_000, "verbose_errors": False}  # 2 kB a state
MAX_COMPILED = 16  # grammars that a tokenizer remembers
WHITESPACE = " ?|\\n[ \\t]{0,32}"  # without a bound, a model can write white space forever
CONTROL_TOKEN = re.compile(r"<\[[0-9]+(?:[,-][0-9]+)*\]>")  # in a grammar of Parakit's own
TRIAL_TOKEN = r'"\u0001"'  # what the child, which has bytes only, reads instead
EVERY_SPLIT = (
    '%llguidance {"no_forcing": true}\n'  # also where the grammar leaves one text: any of its tokens
)


class Constraint:
    """A compiled constraint of one tokenizer. `start` gives each request a state of its own."""

    def __init__(
        self,
        vocabulary: ConstraintVocabulary,
        matcher: Any,
        ends: Sequence[int],
        name: str,
        control_ids: Collection[int] = (),
    ) -> None:
        self.vocabulary, self.ends, self.name = vocabulary, tuple(ends), name
        self.forbidden = np.array([i for i in vocabulary.control_ids if i not in control_ids], dtype=np.int64)
        """Control tokens that no completion may have."""
        self._matcher = matcher

    def start(self) -> ConstraintState:
        """The state before the first token of a completion."""
        with self.vocabulary.lock:
            return ConstraintState(self, self._matcher.deep_copy())


class ConstraintState:
    """What a constraint allows a completion; a `sampling.TokenConstraint`. Any completion may follow any other: only the
    tokens behind the common beginning are read again.
    """

    def __init__(self, constraint: Constraint, matcher: Any) -> None:
        self.constraint, self._matcher = constraint, matcher
        self._token_ids: list[int] = []
        self._masks: dict[int, torch.Tensor] = {}  # by the length of the completion, up to the present one
        self._bits = np.zeros((constraint.vocabulary.end_number + 32) // 32, dtype=np.int32)

    def allowed(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Which tokens may follow the completion `token_ids`: bool (V,) on the CPU, not to be changed.

        Raises `UserError` where no token can, or where the completion broke the constraint before.
        """
        ends = self.constraint.ends
        if token_ids and token_ids[-1] in ends:
            return self._only_ends()
        self._follow(token_ids)
        n = len(token_ids)
        if n not in self._masks:
            self._masks[n] = self._compute(first=n == 0)
        return self._masks[n]

    def _follow(self, token_ids: Sequence[int]) -> None:
        """Bring the matcher to this completion."""
        n = len(self._token_ids)
        if n > len(token_ids) or list(token_ids[:n]) != self._token_ids:
            n = next(
                (i for i, (a, b) in enumerate(zip(self._token_ids, token_ids, strict=False)) if a != b),
                min(n, len(token_ids)),
            )
            self._matcher.rollback(len(self._token_ids) - n)
            del self._token_ids[n:]
            self._masks = {length: mask for length, mask in self._masks.items() if length <= n}
        numbers = self.constraint.vocabulary.first_numbers
        for token_id in token_ids[n:]:
            number = token_id if self._token_ids else int(numbers[token_id])
            if not self._matcher.consume_token(number):
                raise self._error(f"token {token_id} of the completion breaks it")
            self._token_ids.append(token_id)

    def _compute(self, first: bool) -> torch.Tensor:
        vocabulary = self.constraint.vocabulary
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        if self._matcher.is_error():
            raise self._error(_first_line(self._matcher.get_error()))
        bits = np.unpackbits(self._bits.view(np.uint8), bitorder="little").view(np.bool_)
        allowed = bits[vocabulary.first_numbers] if first else bits[: vocabulary.vocab_size].copy()
        allowed[self.constraint.forbidden] = False
        allowed[list(self.constraint.ends)] = bits[vocabulary.end_number]
        if not allowed.any():
            raise self._error("none of the tokenizer's tokens can follow")
        return torch.from_numpy(allowed)

    def _only_ends(self) -> torch.Tensor:
        allowed = torch.zeros(self.constraint.vocabulary.vocab_size, dtype=torch.bool)
        allowed[list(self.constraint.ends)] = True
        return allowed

    def _error(self, reason: str) -> UserError:
        if not self._token_ids:
            return UserError(
                f"{self.constraint.name}: no text satisfies it: {reason}", "change the constraint"
            )
        return UserError(
            f"{self.constraint.name}: no valid text after {len(self._token_ids)} tokens: {reason}",
            "change the constraint, or use a model whose tokenizer has every byte",
        )


def compile_constraint(
    tokenizer: Tokenizer,
    *,
    json_schema: Any = None,
    regex: str | None = None,
    grammar: str | None = None,
    prefix: str = "",
) -> Constraint:
    """Compile one of: a JSON schema (an object, or its text), a regular expression (Rust's syntax; it matches the whole
    text), a grammar (Lark as llguidance reads it; rule `start`). `prefix` is the text that comes before it, as
    `response_prefix` of a chat.

    Raises `UserError` naming the constraint: it is no such thing, is over a limit, or no text satisfies it.
    """
    body, name = _grammar_body(json_schema, regex, grammar)
    return _constraint(tokenizer, [{"name": "body", **body}], name, prefix)


def compile_grammars(
    tokenizer: Tokenizer,
    grammar: str,
    schemas: Mapping[str, Any],
    control_ids: Collection[int],
    *,
    name: str,
    lenient: Collection[str] = (),
    prefix: str = "",
) -> Constraint:
    """Compile a grammar of Parakit's own, which may refer to JSON schemas by name (`@NAME`) and to the tokens `control_ids` as
    `<[ID]>`. Of the schemas in `lenient` keywords that llguidance does not know are ignored. `name` stands in messages.

    Errors as for `compile_constraint`.
    """
    bodies: list[JsonObject] = [{"name": "body", "lark_grammar": grammar}]
    for key, value in schemas.items():
        schema = _guided(_read_schema(value), lenient=key in lenient)
        for address in ("$schema", "$id") if key in lenient else ():  # which llguidance would look up
            schema.pop(address, None)
        bodies.append({"name": key, "json_schema": schema})
    return _constraint(tokenizer, bodies, name, prefix, control_ids)


def _constraint(
    tokenizer: Tokenizer,
    bodies: Sequence[JsonObject],
    name: str,
    prefix: str,
    control_ids: Collection[int] = (),
) -> Constraint:
    start = f"start: {json.dumps(prefix)} @body" if prefix else "start: @body"
    text, trial = (
        json.dumps({"grammars": [{"lark_grammar": EVERY_SPLIT + start}, *some]})
        for some in (bodies, list(map(_without_control_tokens, bodies)) if control_ids else bodies)
    )
    if len(text) > MAX_GRAMMAR_CHARS:
        raise UserError(
            f"{name}: has {len(text):,} characters, and the limit is {MAX_GRAMMAR_CHARS:,}",
            "make it smaller, or split the request",
        )
    ends = stop_ids(tokenizer)
    if not ends:
        raise UserError(
            f"{name}: the tokenizer has no token that ends a text, which constrained output needs",
            "use a tokenizer with EOS",
        )
    vocabulary = constraint_vocabulary(tokenizer)
    with vocabulary.lock:
        matcher = vocabulary.compiled.pop(text, None) or _compile(vocabulary, text, trial, name)
        vocabulary.compiled[text] = matcher
        if len(vocabulary.compiled) > MAX_COMPILED:
            vocabulary.compiled.popitem(last=False)
    constraint = Constraint(vocabulary, matcher, ends, name, control_ids)
    constraint.start().allowed(())
    return constraint


def request_constraint(config: SamplingConfig, tokenizer: Tokenizer, prefix: str = "") -> Constraint | None:
    """The constraint that a request's settings name; None without one. Errors as for `compile_constraint`."""
    settings: dict[str, Any] = {
        "json_schema": config.json_schema,
        "regex": config.regex,
        "grammar": config.grammar,
    }
    if all(value is None for value in settings.values()):
        return None
    return compile_constraint(tokenizer, **settings, prefix=prefix)


def _without_control_tokens(body: JsonObject) -> JsonObject:
    grammar = body.get("lark_grammar")
    return (
        body
        if grammar is None
        else body | {"lark_grammar": CONTROL_TOKEN.sub(lambda _: TRIAL_TOKEN, grammar)}
    )


def _compile(vocabulary: ConstraintVocabulary, text: str, trial: str, name: str) -> Any:
    """The compiled grammar; `trial` is what the child process compiles first."""
    llguidance = import_llguidance()
    _try_in_child(trial, name)
    limits = llguidance.LLParserLimits(**LIMITS)
    matcher = llguidance.LLMatcher(vocabulary.ll_tokenizer, text, log_level=0, limits=limits)
    if matcher.is_error():
        raise UserError(f"{name}: {_first_line(matcher.get_error())}", "change the constraint")
    return matcher


def _try_in_child(text: str, name: str) -> None:
    """Compile in a child process first; `UserError` where it fails, or takes more than its limits."""
    request = {
        "grammar": text,
        "limits": LIMITS,
        "cpu_seconds": TRIAL_CPU_SECONDS,
        "memory_bytes": TRIAL_BYTES,
    }
    program = Path(__file__).parents[1] / "constraint_trial.py"
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(program)],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=TRIAL_SECONDS,
        )
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode != 0 or not done.stdout:
        raise UserError(
            f"{name}: compiling it takes more than the limit of {TRIAL_CPU_SECONDS} s of computing,"
            f" {TRIAL_BYTES >> 20:,} MB of memory, or the stack",
            "make it smaller: fewer and shorter repetitions, fewer alternatives, less nesting",
        )
    error = json.loads(done.stdout).get("error")
    if error is not None:
        reason = "no text satisfies it" if "NoExtension" in error else _first_line(error)
        if reason.startswith("panic"):  # it looks for a control token's bytes, and there are none
            reason = "it names a control token, or llguidance cannot compile it"
        raise UserError(f"{name}: {reason}", "change the constraint; it describes text only")


def _grammar_body(json_schema: Any, regex: str | None, grammar: str | None) -> tuple[JsonObject, str]:
    """The constraint as llguidance reads it, and what it is called in messages."""
    kinds = {"json_schema": json_schema, "regex": regex, "grammar": grammar}
    given = [kind for kind, value in kinds.items() if value is not None]
    if len(given) != 1:
        raise UserError(
            f"a completion has one constraint, and {len(given)} are set: {', '.join(given) or 'none'}",
            "set one of json_schema, regex, grammar",
        )
    for kind in given:
        if isinstance(kinds[kind], str) and fix_surrogates(kinds[kind]) != kinds[kind]:
            raise UserError(f"{kind}: holds half a surrogate pair, which no text does", "remove it")
    if regex is not None:
        name = f"regex {_short(regex)}"
        if not regex:
            return {"lark_grammar": 'start: ""'}, name
        return {"lark_grammar": f"start: /{import_llguidance().regex_to_lark(regex)}/"}, name
    if grammar is not None:
        return {"lark_grammar": grammar}, f"grammar {_short(grammar)}"
    schema = _read_schema(json_schema)
    name = f"json_schema {_short(json.dumps(schema))}"
    if schema is False:
        raise UserError(f"{name}: no text satisfies it", "change the constraint")
    return {"json_schema": _guided(schema)}, name


def _guided(schema: Any, lenient: bool = False) -> JsonObject:
    """The schema with llguidance's options."""
    schema = {"not": {}} if schema is False else {} if schema is True else dict(schema)
    options = {"whitespace_pattern": WHITESPACE} | ({"lenient": True} if lenient else {})
    return schema | {"x-guidance": options | schema.get("x-guidance", {})}


def _read_schema(json_schema: Any) -> Any:
    """The schema as an object or a bool."""
    try:
        schema = json.loads(json_schema) if isinstance(json_schema, str) else json_schema
        json.dumps(schema, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UserError(f"json_schema: is no JSON: {reason}", "give the schema as JSON") from None
    options = schema.get("x-guidance", {}) if isinstance(schema, dict) else {}
    if not isinstance(schema, dict | bool) or not isinstance(options, dict):
        raise UserError(
            f"json_schema: a schema is an object, not {_short(json.dumps(schema))}",
            'such as {"type": "object"}',
        )
    return schema


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:59] + "…"


def _first_line(message: str) -> str:
    """The reason in a message of llguidance, which may go on with the grammar or a stack."""
    lines = [line.strip() for line in message.splitlines() if line.strip() and "<non-verbose" not in line]
    regex_fault = next((line for line in lines if line.startswith("error:")), "")
    return f"{lines[0][:200]} {regex_fault}".strip() if lines else "llguidance gives no reason"
