"""Constraints against independent judges: `re`, `jsonschema`, and `json`."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import torch

from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.inference.generation import constraint_vocabulary, constraints
from parakit.inference.generation.constraints import ConstraintState, compile_constraint
from parakit.tokens import Tokenizer, TokenizerConfig, train_tokenizer
from parakit.tokens.chat.template import stop_ids
from tests.sample_text import sentences

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "ages": {"type": "array", "items": {"type": "integer", "minimum": 3, "maximum": 90}, "maxItems": 3},
        "kind": {"enum": ["a", "é", None, 7]},
    },
    "required": ["name", "kind"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def tokenizer_of() -> Callable[[str], Tokenizer]:
    """Tokenizers that have the characters of JSON."""
    made: dict[str, Tokenizer] = {}

    def make(kind: str) -> Tokenizer:
        if kind not in made:
            texts = [sentences(i, 8) for i in range(8)] + [
                '{"name": [2.5e-7, -13, true], "é": null} 0469 8\n'
            ] * 4
            made[kind] = train_tokenizer(iter(texts), TokenizerConfig(kind=kind, vocab_size=400))
        return made[kind]

    return make


@pytest.fixture(autouse=True)
def _only_here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child process costs a quarter of a second, and these grammars are known to be harmless."""
    if not any(word in request.node.name for word in ("explodes", "control token", "once")):
        monkeypatch.setattr(constraints, "_try_in_child", lambda text, name: None)


def walk(state: ConstraintState, tokenizer: Tokenizer, seed: int, limit: int = 400) -> list[int] | None:
    """Random allowed tokens until the end; None where the limit comes first."""
    generator, ends, token_ids = rng(seed, "walk"), set(stop_ids(tokenizer)), []
    while len(token_ids) < limit:
        allowed = state.allowed(token_ids).nonzero()[:, 0].tolist()
        token_id = int(generator.choice(allowed))
        if token_id in ends:
            return token_ids
        assert token_id not in tokenizer.special_tokens.values()
        token_ids.append(token_id)
    return None


@pytest.mark.parametrize("kind", ["byte_bpe", "unigram", "char"])
def test_random_walks_give_valid_json(kind: str, tokenizer_of: Callable[[str], Tokenizer]) -> None:
    tokenizer = tokenizer_of(kind)
    constraint = compile_constraint(tokenizer, json_schema=SCHEMA)
    for seed in range(25):
        token_ids = walk(constraint.start(), tokenizer, seed)
        assert token_ids is not None
        jsonschema.validate(json.loads(tokenizer.decode(token_ids)), SCHEMA)


@pytest.mark.parametrize("kind", ["byte_bpe", "unigram", "char", "wordpiece"])
def test_random_walks_match_the_expression(kind: str, tokenizer_of: Callable[[str], Tokenizer]) -> None:
    tokenizer, regex = tokenizer_of(kind), "[a-z]{1,5}( [a-z]{1,5}){0,3}"
    constraint = compile_constraint(tokenizer, regex=regex)
    texts = set()
    for seed in range(25):
        token_ids = walk(constraint.start(), tokenizer, seed)
        assert token_ids is not None
        texts.add(tokenizer.decode(token_ids))
        assert re.fullmatch(regex, tokenizer.decode(token_ids))
    assert len(texts) > 10


def test_a_mask_is_the_set_of_tokens_by_which_the_text_can_go_on(
    tokenizer_of: Callable[[str], Tokenizer],
) -> None:
    tokenizer = tokenizer_of("byte_bpe")
    words = ["the tree", "the trees", "they", "é"]
    state = compile_constraint(tokenizer, regex="|".join(words)).start()
    data = tokenizer.token_bytes
    for word in words:
        token_ids: list[int] = []
        for token_id in [*tokenizer.encode(word), None]:
            so_far = b"".join(data[i] for i in token_ids)
            wanted = {
                i
                for i in range(tokenizer.vocab_size)
                if i not in tokenizer.special_tokens.values()
                and any(w.encode().startswith(so_far + data[i]) for w in words)
            }
            wanted |= set(stop_ids(tokenizer)) if so_far.decode("utf-8", "replace") in words else set()
            assert set(state.allowed(token_ids).nonzero()[:, 0].tolist()) == wanted
            if token_id is not None:
                token_ids.append(token_id)


def test_any_completion_may_follow_any_other(tokenizer_of: Callable[[str], Tokenizer]) -> None:
    tokenizer = tokenizer_of("unigram")
    constraint = compile_constraint(tokenizer, json_schema=SCHEMA)
    walks = [walk(constraint.start(), tokenizer, seed) or [] for seed in range(6)]
    state, generator = constraint.start(), rng(0, "jumps")
    for _ in range(60):
        token_ids = walks[int(generator.integers(len(walks)))]
        token_ids = token_ids[: int(generator.integers(len(token_ids) + 1))]
        assert torch.equal(state.allowed(token_ids), constraint.start().allowed(token_ids))
    ended = [*walks[0], stop_ids(tokenizer)[0]]
    assert state.allowed(ended).nonzero()[:, 0].tolist() == sorted(stop_ids(tokenizer))


def test_a_prefix_of_the_template_comes_before_the_text(tokenizer_of: Callable[[str], Tokenizer]) -> None:
    tokenizer = tokenizer_of("byte_bpe")
    constraint = compile_constraint(tokenizer, regex="[ab]{2}", prefix=' "')
    token_ids = walk(constraint.start(), tokenizer, 0)
    assert token_ids is not None
    assert re.fullmatch(' "[ab]{2}', tokenizer.decode(token_ids))


def test_a_grammar_in_larks_notation(tokenizer_of: Callable[[str], Tokenizer]) -> None:
    tokenizer = tokenizer_of("byte_bpe")
    grammar = 'start: sum\nsum: number | number "+" sum | "(" sum ")"\nnumber: /[1-9][0-9]?/'
    constraint = compile_constraint(tokenizer, grammar=grammar)
    for seed in range(20):
        token_ids = walk(constraint.start(), tokenizer, seed)
        if token_ids is not None:
            text = tokenizer.decode(token_ids)
            assert set(text) <= set("0123456789+()")
            assert eval(text) > 0


UNSATISFIABLE: dict[str, dict[str, Any]] = {
    "regex": {"regex": "a[^\\x00-\\x{10FFFF}]"},
    "schema": {"json_schema": {"type": "string", "minLength": 5, "maxLength": 2}},
    "false": {"json_schema": False},
    "recursion": {"grammar": "start: start"},
    "reference": {"json_schema": {"$ref": "#"}},
    "both": {"grammar": "start: A\nA: /a+/ & /b+/"},
    "control id": {"grammar": "start: <[1]>"},
}


@pytest.mark.parametrize("name", UNSATISFIABLE)
def test_what_no_text_satisfies_is_an_error(name: str, tokenizer_of: Callable[[str], Tokenizer]) -> None:
    with pytest.raises(
        UserError, match=r"^(regex|json_schema|grammar) .*(no text satisfies|[Uu]nsatisfiable)"
    ):
        compile_constraint(tokenizer_of("byte_bpe"), **UNSATISFIABLE[name])


FAULTY: dict[str, tuple[dict[str, Any], str]] = {
    "regex": ({"regex": "a(b"}, "unclosed group"),
    "look-around": ({"regex": "a(?=b)"}, "look-around"),
    "surrogate": ({"regex": "\ud800"}, "surrogate"),
    "two": ({"regex": "a", "grammar": "start: /a/"}, "2 are set: regex, grammar"),
    "none": ({}, "0 are set"),
    "no JSON": ({"json_schema": "[1"}, "is no JSON"),
    "no schema": ({"json_schema": [1]}, "a schema is an object"),
    "NaN": ({"json_schema": {"const": float("nan")}}, "is no JSON"),
    "type": ({"json_schema": {"type": "foo"}}, "Invalid type: foo"),
    "keyword": ({"json_schema": {"not": {}}}, "Unimplemented"),
    "deep": ({"json_schema": '{"items":' * 100_000 + "{}" + "}" * 100_000}, "nested too deeply"),
    "long": ({"regex": "a" * 300_000}, "300,"),
    "grammar": ({"grammar": "start: unknown"}, "unknown"),
    "control token": ({"grammar": 'start: "a" <|eos|> "b"'}, "control token"),
}


@pytest.mark.parametrize("name", FAULTY)
def test_faulty_constraints_are_named(name: str, tokenizer_of: Callable[[str], Tokenizer]) -> None:
    settings, message = FAULTY[name]
    with pytest.raises(UserError, match=message):
        compile_constraint(tokenizer_of("byte_bpe"), **settings)


EXPLODING: dict[str, dict[str, Any]] = {
    "time": {"json_schema": {"type": "integer", "multipleOf": 9999991}},
    "stack": {
        "grammar": "\n".join(["start: r0", *(f"r{i}: r{i + 1} r{i + 1}" for i in range(5000)), 'r5000: "a"'])
    },
}


@pytest.mark.parametrize("name", EXPLODING)
def test_a_grammar_that_explodes_is_refused_in_time(
    name: str, tokenizer_of: Callable[[str], Tokenizer]
) -> None:
    started = time.process_time()
    with pytest.raises(UserError, match="more than the limit of 1 s"):
        compile_constraint(tokenizer_of("byte_bpe"), **EXPLODING[name])
    assert time.process_time() - started < 2.0  # of this process: the child's is limited


def test_a_dead_end_names_the_constraint(tokenizer_of: Callable[[str], Tokenizer]) -> None:
    tokenizer = tokenizer_of("char")
    assert "Ω" not in tokenizer.vocabulary
    state = compile_constraint(tokenizer, regex="aaΩ").start()
    a = tokenizer.encode("a")
    assert state.allowed(a).any()
    with pytest.raises(UserError, match=r"^regex aaΩ: no valid text after 2 tokens"):
        state.allowed(a * 2)
    with pytest.raises(UserError, match="no text satisfies it"):
        compile_constraint(tokenizer, regex="Ωa")


def test_a_completion_that_breaks_the_constraint_is_an_error(
    tokenizer_of: Callable[[str], Tokenizer],
) -> None:
    tokenizer = tokenizer_of("byte_bpe")
    state = compile_constraint(tokenizer, regex="a+").start()
    with pytest.raises(UserError, match="breaks it"):
        state.allowed(tokenizer.encode("b"))


def test_without_llguidance_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(UserError) as error:
        constraint_vocabulary.import_llguidance()
    assert "parakit[constrain]" in str(error.value)


def test_grammars_are_compiled_once(
    tokenizer_of: Callable[[str], Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tokenizer_of("byte_bpe")
    compile_constraint(tokenizer, regex="once")
    monkeypatch.setattr(constraints, "_compile", None)
    compile_constraint(tokenizer, regex="once")
