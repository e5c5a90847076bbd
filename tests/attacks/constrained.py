"""Constrained output under random constraints: every completion that ends is valid by an independent judge.

    python -m tests.attacks.constrained [--n N] [--seed S] [--model FOLDER]

Draws JSON schemas (nested objects, arrays, strings with patterns and formats, bounded numbers, unions, references), regular
expressions and a grammar; completes prompts with random models (byte-level, unigram and character tokenizers), greedy and
sampled, or with the model of FOLDER; and judges by `jsonschema_rs` and `re`. Control tokens in a completion are a violation
too. Completions that reach max_new_tokens are reported and not judged. Ends with status 1 after a violation.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import jsonschema_rs
import numpy as np
import torch

import parakit
from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.inference.generation.completion import Completion
from parakit.inference.loaded_model import Model
from parakit.model import DecoderConfig, LanguageModel
from parakit.tokens import TokenizerConfig, train_tokenizer
from tests.sample_text import sentences

PER_CONSTRAINT = 5
KINDS = ("byte_bpe", "unigram", "char")
WORDS = ("age", "name", "tags", "is it", "é", "kind", "x1", "")
PATTERNS = ("^[a-z]{1,4}$", "^(on|off)$", "^[A-F0-9]{2}(-[a-f]{1,2}){0,2}$", "^a+b?$")
FORMATS = ("date", "time", "date-time", "ipv4", "uuid")
GRAMMAR = 'start: "[" (item ("," item)*)? "]"\nitem: /[0-9a-f]{1,3}/ | "(" item "|" item ")"'
Judge = Callable[[str], bool]


def schemas(generator: np.random.Generator, depth: int = 0) -> Any:
    """A random schema whose values are bounded."""
    kinds = ["integer", "number", "boolean", "null", "string", "enum", "const", "pattern", "format"]
    kinds += ["object", "array", "union", "pair"] * (2 if depth < 2 else 0)
    kind = "object" if depth == 0 and generator.random() < 0.7 else str(generator.choice(kinds))
    low = int(generator.integers(-1000, 1000))
    high = low + int(generator.integers(0, 5000))
    made: dict[str, Any] = {
        "integer": {"type": "integer", "minimum": low, "exclusiveMaximum": high + 1},
        "number": {"type": "number", "minimum": low / 8, "maximum": high / 8},
        "boolean": {"type": "boolean"},
        "null": {"type": "null"},
        "string": {"type": "string", "minLength": low % 3, "maxLength": 3 + high % 8},
        "enum": {"enum": ["a", "b c", 'q"\\', 1, -2.5, None, True, "é\n"][: 1 + high % 8]},
        "const": {"const": {"deep": [1, "two", {}]} if high % 2 else "so"},
        "pattern": {"type": "string", "pattern": PATTERNS[high % len(PATTERNS)]},
        "format": {"type": "string", "format": FORMATS[high % len(FORMATS)]},
    }.get(kind) or _compound(kind, generator, depth)
    return made


def _compound(kind: str, generator: np.random.Generator, depth: int) -> dict[str, Any]:
    def inner() -> Any:
        return schemas(generator, depth + 1)

    if kind == "array":
        return {"type": "array", "items": inner(), "minItems": int(generator.integers(2)), "maxItems": 3}
    if kind == "union":
        return {"anyOf": [inner() for _ in range(int(generator.integers(1, 4)))]}
    if kind == "pair":
        return {"type": "array", "prefixItems": [inner(), inner()], "items": False, "minItems": 2}
    names = [str(name) for name in generator.permutation(WORDS)[: int(generator.integers(1, 5))]]
    required = [name for name in names if generator.random() < 0.6]
    properties = {name: inner() for name in names}
    made = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    if depth == 0:
        made["$defs"] = {"part": schemas(generator, 2)}
        properties["ref"] = {"$ref": "#/$defs/part"}
    return made


def expressions(generator: np.random.Generator, depth: int = 0) -> str:
    """A random expression of bounded length in what Rust's and Python's syntax have in common."""
    draw = generator.random()
    if depth > 2 or draw < 0.4:
        atoms = [
            "a",
            "the",
            "[a-f]",
            "[^a-z\\n]",
            "\\.",
            "é",
            "[0-9]",
            "(?:yes|no)",
            " ",
            "\\$",
            "[\\]x-]",
            ".",
        ]
        return str(generator.choice(atoms))
    if draw < 0.65:
        return expressions(generator, depth + 1) + expressions(generator, depth + 1)
    if draw < 0.8:
        return f"(?:{expressions(generator, depth + 1)}|{expressions(generator, depth + 1)})"
    low = int(generator.integers(0, 3))
    return f"(?:{expressions(generator, depth + 1)}){{{low},{low + int(generator.integers(0, 4))}}}"


@cache
def random_model(kind: str) -> Model:
    """A model that nobody trained, with a tokenizer that knows the characters of JSON."""
    texts = [sentences(i, 8) for i in range(8)] + [
        '{"name": [2.5e-7, -13, true], "é": null} 0469 8 AZ:T+|()$\\]x\n'
    ] * 4
    tokenizer = train_tokenizer(iter(texts), TokenizerConfig(kind=kind, vocab_size=400))
    shape = {"d_model": 16, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8, "d_ff": 16}
    torch.manual_seed(0)
    network = LanguageModel(DecoderConfig(vocab_size=tokenizer.vocab_size, max_seq_len=1024, **shape))
    return Model(network.eval(), tokenizer, path=kind)


def constraints(generator: np.random.Generator) -> tuple[str, dict[str, Any], Judge]:
    """A kind, the setting, and what judges a text."""
    draw = generator.random()
    if draw < 0.6:
        schema = schemas(generator)
        return "json_schema", {"json_schema": schema}, lambda text: _fits(schema, text)
    if draw < 0.95:
        regex = expressions(generator)
        return "regex", {"regex": regex}, lambda text: re.fullmatch(regex, text) is not None
    return "grammar", {"grammar": GRAMMAR}, _fits_grammar


def _fits(schema: Any, text: str) -> bool:
    """Second 60 counts as 59: RFC 3339's grammar has it at any time, and the judge at the end of a UTC day only."""
    text = re.sub(r"(?<=[0-9]:[0-9]{2}:)60", "59", text)
    try:
        return bool(jsonschema_rs.is_valid(schema, json.loads(text), validate_formats=True))
    except ValueError:
        return False


def _fits_grammar(text: str) -> bool:
    """By rewriting: items become `i` until nothing changes."""
    text, before = re.sub("[0-9a-f]{1,3}", "i", text), ""
    while text != before:
        before, text = text, text.replace("(i|i)", "i")
    return re.fullmatch(r"\[(i(,i)*)?\]", text) is not None


def completions(
    generator: np.random.Generator, model: Model, setting: dict[str, Any], limit: int
) -> Iterator[tuple[Model, Completion]]:
    """Completions of a few prompts under one constraint."""
    temperature = float(generator.choice([0.0, 0.7, 1.0, 1.5]))
    for _ in range(PER_CONSTRAINT if temperature else 1):
        text = sentences(int(generator.integers(50)), 1)[:40]
        prompt: Any = [{"role": "user", "content": text}] if generator.random() < 0.3 else text
        seed = int(generator.integers(2**31))
        stream = model.stream(prompt, temperature=temperature, seed=seed, max_new_tokens=limit, **setting)
        for _piece in stream:
            pass
        yield model, stream.completion


def attack(n: int, seed: int = 0, folder: str | None = None) -> dict[str, Any]:
    """Counts of `n` completions that ended, and the violations among them."""
    counts: Counter[str] = Counter()
    violations: list[dict[str, Any]] = []
    given, number = None if folder is None else parakit.load(folder), 0
    while counts["ended"] < n:
        generator = rng(seed, "constrained", number)
        model = given or random_model(KINDS[number % len(KINDS)])
        number += 1
        kind, setting, judge = constraints(generator)
        try:
            for _, done in completions(generator, model, setting, 600 if given is None else 200):
                counts["truncated"] += done.finish_reason != "stop"
                if done.finish_reason == "stop":
                    counts["ended"] += 1
                    counts[kind] += 1
                    body, last = done.token_ids[:-1], done.token_ids[-1]
                    control = model.tokenizer.control_ids
                    if not judge(done.text) or not control.isdisjoint(body) or last not in control:
                        violations.append({**setting, "text": done.text, "round": number - 1})
        except UserError as error:  # characters that no token has
            counts["refused"] += 1
            if "no text satisfies it" not in str(error) and "no valid text after" not in str(error):
                violations.append({**setting, "error": str(error), "round": number - 1})
    return {**counts, "constraints": number, "violations": violations}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the attack and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks.constrained")
    parser.add_argument("--n", type=int, default=1000, help="completions that end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default=None, help="a model folder; default: random models")
    given = parser.parse_args(argv)
    found = attack(given.n, given.seed, given.model)
    for violation in found["violations"][:20]:
        print(json.dumps(violation))
    print(json.dumps(found | {"violations": len(found["violations"])}))
    return 1 if found["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
