"""Fast encoding of text to ids, without special tokens.

Whatever the text contains, these encoders cannot produce a control id: they use a copy of the vocabulary without the
control tokens. Byte BPE uses tiktoken, several times as fast as `tokenizers`, when its ids are proven equal; single
characters use a table; everything else uses `tokenizers`.

The proof. tiktoken merges any two neighbours whose join is a token, by the token's rank; `tokenizers` merges only the
listed pairs, in the list's order. Premises: each merge makes a new token, and the encoding of every token's bytes is that
token. Whether L and R ever become neighbours before merge k depends on their own bytes only (merges act leftmost-first
inside them), so the neighbours that can join into token T at its merge are exactly T's listed pair, and both procedures
pass through the same states. `equivalent_tiktoken_ranks` checks both premises on the whole vocabulary; the splitting
patterns come from a list on which both regular-expression engines agree for every code point (a test verifies it).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import groupby, pairwise
from typing import Protocol

import numpy as np
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers.normalizers import Normalizer

from parakit.common.errors import UserError
from parakit.common.files import JsonObject

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD, _SYMBOLS = r"[^\r\n\p{L}\p{N}]?\p{L}+", r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
PATTERNS = {
    # GPT-2; words with their leading space, runs of digits
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    # cl100k, Llama 3: up to three digits; any one character may begin a word
    "three_digits": rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}{{1,3}}|{_SYMBOLS}|{_SPACES}",
    # Qwen 2 and 3: each digit alone
    "one_digit": rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}|{_SYMBOLS}|{_SPACES}",
    # o200k: splits words where the case changes
    "case_aware": "|".join(
        [
            rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+{_CONTRACTIONS}?",
            rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*{_CONTRACTIONS}?",
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
            _SPACES,
        ]
    ),
}
LONG_TEXT, LONG_SPACE = 100_000, re.compile(r"\s{50000}")  # tiktoken's stack overflows at 500,000 spaces
_HARD_CASES = (
    "",
    " ",
    "  a  b\n\n c\t",
    "it's 'S 12345 x9",
    "|<b>|",
    "\u00e9e\u0301 \u4f60\u597d \U0001f600\u200d",
    "\x00\x7f\xa0\u3000\u2028",
)


class TextEncoder(Protocol):
    """Encodes text to ids, never to a control id."""

    def encode(self, text: str) -> list[int]:
        """Ids of one well-formed text."""
        ...

    def encode_bulk(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Ids of many texts, one uint32 array each, in order."""
        ...


@lru_cache(maxsize=1)
def byte_alphabet() -> tuple[str, ...]:
    """GPT-2's printable character for each byte: itself where it is printable, else the next free one from U+0100."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in printable else next(spare)) for byte in range(256))


@lru_cache(maxsize=1)
def _byte_of_character() -> dict[int, int]:
    """For `str.translate`: what is no character of the byte alphabet stays or becomes no character of Latin-1."""
    outside = dict.fromkeys(range(256), 0x10FFFF)
    return outside | {ord(char): byte for byte, char in enumerate(byte_alphabet())}


def token_bytes(token: str) -> bytes | None:
    """The bytes of a byte-level token, or None when it is not written in the byte alphabet."""
    try:
        return token.translate(_byte_of_character()).encode("latin-1")
    except UnicodeEncodeError:
        return None


def join_characters(pieces: list[bytes], strings: Sequence[str | None]) -> None:
    """Replace each of `pieces` that has a string by it, where its bytes belong to no character together with the others."""
    starts = np.cumsum([0, *map(len, pieces)])
    data, position = b"".join(pieces), 0
    while True:
        try:
            data[position:].decode()
            return
        except UnicodeDecodeError as error:
            start, end = position + error.start, position + error.end
        first, last = (int(np.searchsorted(starts, at, "right")) - 1 for at in (start, end - 1))
        for i in range(first, last + 1):
            if (string := strings[i]) is not None:
                pieces[i] = string.encode()
                end = int(starts[i + 1])
                break
        position = end


def is_panic(error: BaseException) -> bool:
    """Whether a library written in Rust panicked, which Python sees as an error that is no `Exception`."""
    return type(error).__name__ == "PanicException"


@contextlib.contextmanager
def library_failures() -> Iterator[None]:
    """Turn a failure of the library on a text, a panic or its bare `Exception`, into a `UserError`."""
    try:
        yield
    except BaseException as error:
        if not is_panic(error) and type(error) is not Exception:
            raise
        reason = (str(error).splitlines() or ["no reason"])[0][:300]
        raise UserError(
            f"the tokenizer fails on this text: {reason}",
            "its files are damaged, or its patterns cannot take the text: shorten long runs of one character, or fetch "
            "the tokenizer again",
        ) from None


_SURROGATE = re.compile("[\ud800-\udfff]")


def fix_surrogates(text: str) -> str:
    """`text` with lone surrogates (invalid in UTF-8) replaced by U+FFFD, and surrogate pairs joined."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class ReferenceEncoder:
    """`tokenizers` on a copy of the tokenizer whose control tokens have random names."""

    def __init__(self, parsed_json: JsonObject, control_ids: set[int]) -> None:
        self.tokenizer = HuggingFaceTokenizer.from_str(
            json.dumps(without_control_tokens(parsed_json, control_ids))
        )

    def encode(self, text: str) -> list[int]:
        with library_failures():
            return self.tokenizer.encode(fix_surrogates(text), add_special_tokens=False).ids

    def encode_bulk(self, texts: Sequence[str]) -> list[np.ndarray]:
        with library_failures():
            encodings = self.tokenizer.encode_batch_fast(
                list(map(fix_surrogates, texts)), add_special_tokens=False
            )
        return [np.array(encoding.ids, np.uint32) for encoding in encodings]

    def spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and, for each, the characters of `text` it covers; every surrogate is read as U+FFFD, so that they hold."""
        with library_failures():
            encoding = self.tokenizer.encode(_SURROGATE.sub("\ufffd", text), add_special_tokens=False)
        return encoding.ids, encoding.offsets


class TiktokenEncoder:
    """Byte BPE by tiktoken; texts that tiktoken cannot handle are encoded by the reference, with the same ids."""

    def __init__(
        self,
        ranks: dict[bytes, int],
        pattern: str,
        normalizer: Normalizer | None,
        reference: Callable[[], ReferenceEncoder],
    ) -> None:
        import tiktoken

        self._encode = tiktoken.Encoding(
            "parakit", pat_str=pattern, mergeable_ranks=ranks, special_tokens={}
        ).encode_ordinary
        self._reference = reference
        self._normalizer = normalizer

    def encode(self, text: str) -> list[int]:
        if self._normalizer is not None:
            text = self._normalizer.normalize_str(text)
        if len(text) > LONG_TEXT and LONG_SPACE.search(text):
            return self._reference().encode(text)
        with library_failures():
            return self._encode(text)

    def encode_bulk(self, texts: Sequence[str]) -> list[np.ndarray]:
        n_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if n_threads == 1 or len(texts) < 2 * n_threads:
            return [np.array(self.encode(text), np.uint32) for text in texts]
        size = max(1, len(texts) // (8 * n_threads))
        pieces = [texts[i : i + size] for i in range(0, len(texts), size)]
        with ThreadPoolExecutor(n_threads) as pool:  # tiktoken releases the interpreter lock
            done = pool.map(lambda piece: [np.array(self.encode(text), np.uint32) for text in piece], pieces)
            return [ids for piece in done for ids in piece]


class CharacterEncoder:
    """One id per code point, through a table."""

    def __init__(self, vocabulary: dict[str, int], unk_id: int) -> None:
        self._table = np.full(0x110000, unk_id, np.uint32)
        for token, token_id in vocabulary.items():
            if len(token) == 1:
                self._table[ord(token)] = token_id

    def encode(self, text: str) -> list[int]:
        return self._ids(text).tolist()

    def encode_bulk(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [self._ids(text) for text in texts]

    def _ids(self, text: str) -> np.ndarray:
        return self._table[np.frombuffer(text.encode("utf-32-le"), np.uint32)]


def fastest_encoder(
    backend: HuggingFaceTokenizer,
    parsed_json: JsonObject,
    kind: str,
    control_ids: set[int],
    reference: Callable[[], ReferenceEncoder],
) -> TextEncoder:
    """The fastest encoder whose ids equal those of the reference.

    `parsed_json` is the tokenizer.json of `backend`; `reference` builds the reference encoder when it is needed.
    """
    model = parsed_json["model"]
    if kind == "char" and model["type"] == "WordLevel" and parsed_json.get("normalizer") is None:
        return CharacterEncoder(model["vocab"], model["vocab"][model["unk_token"]])
    pattern = splitting_pattern(parsed_json.get("pre_tokenizer"))
    if kind != "byte_bpe" or pattern is None or text_added_tokens(parsed_json):
        return reference()
    ranks = equivalent_tiktoken_ranks(parsed_json, control_ids, backend)
    if ranks is None:
        return reference()
    fast = TiktokenEncoder(ranks, pattern, backend.normalizer, reference)
    expected = backend.encode_batch(list(_HARD_CASES), add_special_tokens=False)
    agree = all(fast.encode(text) == one.ids for text, one in zip(_HARD_CASES, expected, strict=True))
    return fast if agree else reference()


def splitting_pattern(pre_tokenizer: JsonObject | None) -> str | None:
    """The pattern by which a byte-level pre-tokenizer splits, if both engines are known to agree on it."""
    if pre_tokenizer is None:
        return None
    steps = pre_tokenizer["pretokenizers"] if pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]
    last = steps[-1]
    if last["type"] != "ByteLevel" or last["add_prefix_space"] or len(steps) > 2:
        return None
    if len(steps) == 1:
        return PATTERNS["gpt2"] if last["use_regex"] else None
    split = steps[0]
    if split["type"] != "Split" or split["behavior"] != "Isolated" or split["invert"] or last["use_regex"]:
        return None
    pattern = split["pattern"].get("Regex")
    return pattern if pattern in PATTERNS.values() else None


def equivalent_tiktoken_ranks(
    parsed_json: JsonObject, control_ids: set[int], backend: HuggingFaceTokenizer | None = None
) -> dict[bytes, int] | None:
    """tiktoken's ranks (token bytes -> id) if its ids are proven equal to those of `tokenizers`; else None."""
    model = parsed_json["model"]
    if any(
        model.get(name)
        for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
    ):
        return None
    vocabulary = {
        token: token_id for token, token_id in model["vocab"].items() if token_id not in control_ids
    }
    ranks = {token_bytes(token): token_id for token, token_id in vocabulary.items()}
    if None in ranks or not all(bytes([byte]) in ranks for byte in range(256)):
        return None
    pairs = [merge if isinstance(merge, list) else merge.split(" ") for merge in model["merges"]]
    merged = ["".join(pair) for pair in pairs]
    if len(vocabulary) != len(merged) + 256:
        return None  # a token made twice, or tokens that no merge makes
    merged_ids = [vocabulary.get(token, -1) for token in merged]
    if any(later <= earlier for earlier, later in pairwise([-1, *merged_ids])):
        return None  # ids not in the order of merges
    order = {token: i for i, token in enumerate(merged)}
    if any(order.get(part, -1) >= i for i, pair in enumerate(pairs) for part in pair):
        return None  # a merge of a token that a later merge makes
    if backend is None or model.get("ignore_merges"):
        bare = {"version": "1.0", "added_tokens": [], "model": model | {"ignore_merges": False}}
        backend = HuggingFaceTokenizer.from_str(json.dumps(bare))
    merges_only = backend.model
    for token in merged:
        pieces = merges_only.tokenize(token)
        if len(pieces) != 1 or pieces[0].value != token:
            return None
    return {data: token_id for data, token_id in ranks.items() if data is not None}


_TEXT_ADDED = re.compile(
    r"[\w\s\u2581]+|</?(?:table|caption|t(?:head|body|foot|r|h|d)|h[1-6]|blockquote|strong|em|[bius]|su[bp]|code)>"
)


def is_text(string: str) -> bool:
    """Whether an added token is ordinary text: a run of spaces (sentencepiece's, too), a word, one of Gemma's HTML tags."""
    return _TEXT_ADDED.fullmatch(string) is not None


def text_added_tokens(parsed_json: JsonObject) -> list[JsonObject]:
    """Added tokens that are ordinary text; those that look like markers are control tokens, whatever their `special`
    flag.
    """
    added = parsed_json.get("added_tokens", [])
    return [token for token in added if not token["special"] and is_text(token["content"])]


def control_token_pattern(added: Sequence[JsonObject], strings: Iterable[str]) -> re.Pattern[str] | None:
    """Matches one of `strings`, the longest first, each in a group; with the spaces that its flags in `added` take.
    Splitting by it gives None for the groups that did not match.
    """
    flags = {token["content"]: (token["lstrip"], token["rstrip"], token["single_word"]) for token in added}
    ordered = sorted(strings, key=len, reverse=True)
    groups = []
    for (lstrip, rstrip, single_word), same in groupby(ordered, lambda one: flags.get(one, (False,) * 3)):
        group = f"({'|'.join(map(re.escape, same))})"
        group = rf"(?<!\w){group}(?!\w)" if single_word else group
        before, after = (r"\s*" if strips else "" for strips in (lstrip, rstrip))
        groups.append(f"{before}{group}{after}")
    return re.compile("|".join(groups)) if groups else None


def continuation_json(parsed_json: JsonObject) -> JsonObject | None:
    """The tokenizer.json for text that does not come first, where it differs: a Metaspace that prepends a space to the
    first text only prepends nothing here. None where it is the same.
    """
    splitter = parsed_json.get("pre_tokenizer")
    if not isinstance(splitter, dict):
        return None
    is_sequence = splitter["type"] == "Sequence"
    steps = splitter["pretokenizers"] if is_sequence else [splitter]
    changed = [step | {"prepend_scheme": "never"} if _prepends_first(step) else step for step in steps]
    if changed == steps:
        return None
    return parsed_json | {
        "pre_tokenizer": splitter | {"pretokenizers": changed} if is_sequence else changed[0]
    }


def _prepends_first(step: JsonObject) -> bool:
    return step["type"] == "Metaspace" and step.get("prepend_scheme") == "first"


def without_control_tokens(parsed_json: JsonObject, control_ids: set[int]) -> JsonObject:
    """A copy of a tokenizer.json in which no text matches a control token or UNK: each gets a random name of 128 bits.
    Merges that would make one are dropped.
    """
    model, nonce = dict(parsed_json["model"]), secrets.token_hex(16)
    text_ids = {token["id"] for token in text_added_tokens(parsed_json)}
    added = parsed_json.get("added_tokens", [])
    hidden = control_ids | {token["id"] for token in added if token["id"] not in text_ids}

    def rename(token: str, token_id: int) -> str:
        return f"{nonce}{token_id}" if token_id in hidden else token

    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {rename(token, token_id): token_id for token, token_id in vocabulary.items()}
        unk = model.get("unk_token")
        if unk is not None and unk in vocabulary:
            model["unk_token"] = rename(unk, vocabulary[unk])
    else:  # Unigram: a list of (piece, score)
        model["vocab"] = [[rename(piece, i), score] for i, (piece, score) in enumerate(vocabulary)]
    if "merges" in model:
        pairs = [merge if isinstance(merge, list) else merge.split(" ") for merge in model["merges"]]
        kept = model["vocab"]
        model["merges"] = [
            [left, right] for left, right in pairs if left in kept and right in kept and left + right in kept
        ]
    renamed = [token | {"content": rename(token["content"], token["id"])} for token in added]
    outside = {"post_processor": None, "truncation": None, "padding": None}
    return parsed_json | {"model": model, "added_tokens": renamed, **outside}
