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
from parakit.inference.config import SamplingConfig
from parakit.inference.engine.config import EngineConfig
from parakit.inference.engine.engine import Engine
from parakit.inference.engine.requests import Request
from parakit.inference.generation import constraint_vocabulary, constraints
from parakit.inference.generation.constraints import ConstraintState, compile_constraint
from parakit.inference.generation.text import generate, generate_batch, stream
from parakit.model import LanguageModel
from parakit.tokens import Tokenizer, TokenizerConfig, train_tokenizer
from parakit.tokens.chat.template import stop_ids
from tests.inference.conftest import TINY, build_model
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


def test_a_control_token_named_by_its_id_is_never_allowed(tokenizer_of: Callable[[str], Tokenizer]) -> None:
    tokenizer = tokenizer_of("byte_bpe")
    control = min(tokenizer.control_ids - set(stop_ids(tokenizer)))
    assert control < 256  # so that the child process takes it for a byte
    state = compile_constraint(tokenizer, grammar=f'start: <[{control}]> "b" | "a"').start()
    assert [tokenizer.decode([i]) for i in state.allowed(()).nonzero().flatten().tolist()] == ["a"]


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


@pytest.fixture(scope="module")
def model(tokenizer_of: Callable[[str], Tokenizer]) -> LanguageModel:
    vocab_size = tokenizer_of("byte_bpe").vocab_size
    return build_model(TINY.replace(vocab_size=vocab_size, max_seq_len=160), torch.float64, seed=1)


PERSON = {
    "type": "object",
    "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 99}, "up": {"type": "boolean"}},
    "required": ["age", "up"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_alone_streamed_batched_and_in_the_engine_it_is_the_same_valid_text(
    temperature: float, model: LanguageModel, tokenizer_of: Callable[[str], Tokenizer]
) -> None:
    tokenizer = tokenizer_of("byte_bpe")
    prompts: list[Any] = ["the bird", [{"role": "user", "content": "how old?"}], "a tree and"]
    config = SamplingConfig(temperature=temperature, seed=3, max_new_tokens=80, json_schema=PERSON)
    seeds = [5, 6, 7]
    batch = generate_batch(model, tokenizer, prompts, config, seeds=seeds)
    engine = Engine(model, tokenizer, EngineConfig(memory_bytes=4_000_000))
    handles = [
        engine.submit(Request(prompt=p, sampling=config, seed=s)) for p, s in zip(prompts, seeds, strict=True)
    ]
    engine.run()
    for prompt, seed, done, handle in zip(prompts, seeds, batch, handles, strict=True):
        pieces = stream(model, tokenizer, prompt, config, seed=seed)
        assert "".join(pieces) == done.text
        assert pieces.completion.token_ids == done.token_ids == handle.completions[0].token_ids
        assert done.finish_reason == "stop"
        jsonschema.validate(json.loads(done.text), PERSON)


def test_what_is_cut_at_the_limit_says_so(
    model: LanguageModel, tokenizer_of: Callable[[str], Tokenizer]
) -> None:
    config = SamplingConfig(temperature=0.0, max_new_tokens=5, regex="[a-z]{40}")
    assert generate(model, tokenizer_of("byte_bpe"), "a", config).finish_reason == "length"


def test_the_other_requests_of_an_engine_go_on_after_a_dead_end(
    tokenizer_of: Callable[[str], Tokenizer],
) -> None:
    tokenizer = tokenizer_of("char")
    model = build_model(TINY.replace(vocab_size=tokenizer.vocab_size), torch.float64)
    engine = Engine(model, tokenizer, EngineConfig(memory_bytes=4_000_000))
    settings = {"temperature": 0.0, "max_new_tokens": 8}
    broken = engine.submit(Request(prompt="a", sampling=SamplingConfig(**settings, regex="aaΩ")))
    fine = engine.submit(Request(prompt="a", sampling=SamplingConfig(**settings)))
    engine.run()
    assert fine.completions[0].text == generate(model, tokenizer, "a", SamplingConfig(**settings)).text
    with pytest.raises(UserError, match="regex aaΩ: no valid text after 2 tokens"):
        _ = broken.completions


def test_settings_hold_one_constraint() -> None:
    with pytest.raises(UserError, match="one of json_schema, regex, grammar"):
        SamplingConfig.parse({"regex": "a", "grammar": "start: /a/"})
