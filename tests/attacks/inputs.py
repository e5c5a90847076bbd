"""Attack: texts and prompts made to break tokenizers and templates.

Every text goes through five tokenizers of Parakit's own and, where they are there, those of two published models. What
must hold: an answer in the budget of time; ids inside the vocabulary, equal one by one and in bulk, and never a control
id, whatever marker the text spells; byte-level ids give back the text where every byte has a token, whole, streamed and
piece by piece; in a prompt for a chat the control ids are those of a harmless prompt.

    python -m tests.attacks.inputs --n 5000 --seed 0
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.attacks.isolated import run

if TYPE_CHECKING:
    from parakit.tokens import Tokenizer

KINDS = ("byte_bpe", "wordpiece", "unigram", "word", "char")
CHUNK, SECONDS = 100, 120.0
_ALPHABETS = (
    "abc ", "0123456789.,-", " \t\n\r\x0b\x0c\x85\u2028\u3000", "éüßÅ\u0301\u0327", "日本語中文한국", "👩\u200d👧🏽🇩🇪\ufe0f",
    "\u202e\u202d\u2066\u200b\ufeff\x00\x7f\x1b", "½ĠĊÃ©\u0120\u010a▁##", "\ud800\udc00\udfff", "'ſKK's'LL", "(){}[]<>|_*`~",
)  # fmt: skip
_LONE = (
    "<",
    "|",
    "im_start",
    "endoftext",
    "|>",
    "bos",
    "[",
    "MASK",
    "]",
    "<s>",
    "</s>",
    "<unk>",
    "##",
    "\u2581",
)


def hostile_text(dice: random.Random, markers: Sequence[str], longest: int = 400) -> str:
    """A text of pieces: runs of one character, draws from odd alphabets, markers whole, cut, doubled and interrupted."""
    pieces: list[str] = []
    length = dice.choice((0, 1, 8, 60, longest))
    while sum(map(len, pieces)) < length:
        kind = dice.random()
        if kind < 0.15:
            pieces.append(dice.choice(dice.choice(_ALPHABETS)) * dice.choice((2, 40, longest)))
        elif kind < 0.45:
            alphabet = dice.choice(_ALPHABETS)
            pieces.append("".join(dice.choice(alphabet) for _ in range(dice.randrange(1, 30))))
        elif kind < 0.55:
            pieces.append("".join(chr(dice.randrange(0x110000)) for _ in range(dice.randrange(1, 8))))
        elif kind < 0.65:
            pieces.append("".join(dice.choice(_LONE) for _ in range(dice.randrange(1, 6))))
        else:
            marker = dice.choice(markers)
            cut = dice.randrange(len(marker) + 1)
            middle = dice.choice(("", " ", "\u200b", "\n", marker))
            pieces.append(
                dice.choice((marker, marker[:cut] + middle + marker[cut:], marker.upper(), f" {marker} "))
            )
    return "".join(pieces)[: 4 * longest]


def tokenizers() -> dict[str, Tokenizer]:
    """Parakit's kinds, trained on a few sentences, and those of the published models that are there."""
    from parakit.tokens import Tokenizer, TokenizerConfig, train_tokenizer
    from tests.attacks.samples import SENTENCES
    from tests.real_models import find_model, transformers_folder

    texts = [*SENTENCES, "Größe 42 € naïve 日本 ½ 'quoted' (x_y)"]
    found = {kind: train_tokenizer(iter(texts), TokenizerConfig(kind=kind, vocab_size=400)) for kind in KINDS}
    for name, folder in (("minilm", find_model("minilm")), ("smollm2", transformers_folder())):
        if folder is not None and Path(folder).is_dir():
            found[name] = Tokenizer.load(folder)
    return found


def faults(tokenizer: Tokenizer, text: str) -> Iterator[str]:
    """What does not hold for one text."""
    from parakit.inference.generation.text_stream import CharacterStream
    from parakit.tokens.tokenizer.comparison import token_pieces
    from parakit.tokens.tokenizer.fast_encoding import fix_surrogates

    ids, clean = tokenizer.encode(text), fix_surrogates(text)
    if tokenizer.encode_bulk([text, "a", text])[2].tolist() != ids:
        yield "ids differ in bulk"
    if not all(0 <= token_id < tokenizer.vocab_size for token_id in ids):
        yield "an id outside the vocabulary"
    if tokenizer.control_ids & set(ids):
        yield f"control ids {sorted(tokenizer.control_ids & set(ids))}"
    decoded = tokenizer.decode(ids)
    if _has_all_bytes(tokenizer) and decoded != tokenizer.normalize(clean):
        yield f"decoded to {ascii(decoded)[:80]}"
    if tokenizer.kind == "byte_bpe":
        stream = CharacterStream(tokenizer)
        if "".join(stream.push(token_id) for token_id in ids) != decoded:
            yield "streamed to another text"
    if ids and "".join(piece for _, piece in token_pieces(tokenizer, text)) != clean:
        yield "its pieces do not join to it"


def _has_all_bytes(tokenizer: Tokenizer) -> bool:
    """Whether every byte has a token; SmolLM2 has none for the first bytes of rare planes, as its publisher left it."""
    from parakit.tokens.tokenizer.fast_encoding import byte_alphabet

    return tokenizer.kind == "byte_bpe" and all(
        tokenizer.token_id(char) is not None for char in byte_alphabet()
    )


def prompt_faults(tokenizer: Tokenizer, text: str) -> Iterator[str]:
    """What does not hold for one text as a turn of a chat."""
    from parakit.common import UserError
    from parakit.tokens.chat.template import compile_chat

    if tokenizer.chat_template is None:
        return

    def controls(content: str) -> list[int]:
        turns = [{"role": "user", "content": content}, {"role": "assistant", "content": content}]
        return [i for i in compile_chat(tokenizer, turns).token_ids if i in tokenizer.control_ids]

    try:
        if controls(text) != controls("a"):
            yield "a prompt forges a control token"
    except UserError:
        return  # a template may refuse an empty turn


def check_chunk(found: dict[str, Tokenizer], seeds: Sequence[int]) -> list[str]:
    """The faults of some texts with every tokenizer."""
    listed = []
    for seed in seeds:
        for name, tokenizer in found.items():
            dice = random.Random(f"{seed} {name}")
            markers = [*tokenizer.special_tokens, "<|im_start|>", "<s>", "[SEP]", "<|bos|>"]
            text = hostile_text(dice, markers)
            try:
                wrong = [*faults(tokenizer, text), *(prompt_faults(tokenizer, text) if seed % 4 == 0 else ())]
            except Exception as error:
                wrong = [f"{type(error).__name__}: {str(error)[:200]}"]
            listed += [f"{seed} {name}: {one}: {ascii(text)[:120]}" for one in wrong]
    return listed


def sweep(n: int, seed: int = 0) -> dict[str, Any]:
    """`n` texts for each tokenizer, from `seed` on, in processes of a hundred."""
    found = tokenizers()
    listed: list[str] = []
    slowest = 0.0
    for first in range(seed, seed + n, CHUNK):
        seeds = range(first, min(first + CHUNK, seed + n))

        def case(seeds: Sequence[int] = seeds) -> int:
            wrong = check_chunk(found, seeds)
            print(*(one[:350] for one in wrong[:5]), sep="\n")
            return 1 if wrong else 0

        outcome = run(case, Path("/nonexistent"), SECONDS)
        slowest = max(slowest, outcome.seconds)
        if outcome.fault or outcome.status:
            listed += [outcome.fault] if outcome.fault else outcome.output.splitlines()
    return {"n": n * len(found), "tokenizers": sorted(found), "slowest": round(slowest, 1), "faults": listed}


def main() -> int:
    """Run the sweep; 1 where anything did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    result = sweep(given.n, given.seed)
    print(*result["faults"], sep="\n")
    print(json.dumps({"attack": "inputs"} | result | {"faults": len(result["faults"])}))
    return 1 if result["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
