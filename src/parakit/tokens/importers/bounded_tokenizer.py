"""Bounds on what a third-party tokenizer.json can make the library `tokenizers` do.

The library runs the file's own regular expressions and replacements: a pattern can backtrack for ever (the library then
panics), a chain of replacements can grow a text without end, and both end the process. So lengths are bounded from
the file alone, and patterns that are not known are first compiled and tried in a child process with bounded time and
memory. The child is started by file path and imports only `tokenizers` and the standard library.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

SECONDS, MEMORY_BYTES = 10.0, 1 << 30
MAX_GROWTH = 200  # characters from one; compatibility forms have up to 18
MAX_IDS, MAX_ADDED, MAX_STEPS, MAX_AFFIX, MAX_WORD = 5_000_000, 100_000, 1000, 100, 1000
MAX_PATTERN, MAX_PATTERNS = 10_000, 100
_PARTS = ("normalizer", "pre_tokenizer", "decoder")
_LISTS = ("normalizers", "pretokenizers", "decoders", "processors")
_STEP_GROWTH = {"BertNormalizer": 3.0, "Lowercase": 3.0, "ByteLevel": 4.0}
_FORMS = {"NFD": 4.0, "NFKC": 18.0, "NFKD": 18.0}  # repeating them adds nothing
_RUN = 1000  # characters of a text on which a pattern is tried


def check_bounds(parsed: Mapping[str, Any], known: frozenset[str]) -> None:
    """`ValueError` that says which part of a tokenizer.json has no bound; `known` are patterns that need no trial."""
    for name in ("normalizer", "decoder"):
        if (growth := _growth(parsed.get(name))) > MAX_GROWTH:
            raise ValueError(f"its {name} grows a text up to {growth:.3g} times; {MAX_GROWTH} is the limit")
    model = parsed.get("model") or {}
    steps = [step for one in _nested(parsed.get("post_processor")) for step in one.get("single") or ()]
    longest_affix = max(
        len(model.get(name) or "")
        for name in ("continuing_subword_prefix", "end_of_word_suffix", "unk_token")
    )
    for what, n, limit in (
        ("ids", 1 + max(_ids(parsed), default=0), MAX_IDS),
        ("added tokens", len(parsed.get("added_tokens") or []), MAX_ADDED),
        ("tokens around a text", len(steps), MAX_STEPS),
        ("characters in the longest word", model.get("max_input_chars_per_word") or 0, MAX_WORD),
        ("characters in an affix", longest_affix, MAX_AFFIX),
    ):
        if n > limit:
            raise ValueError(f"it has {n} {what}; {limit} is the limit")
    patterns = sorted({pattern for name in _PARTS for pattern in _patterns(parsed.get(name))} - known)
    if len(patterns) > MAX_PATTERNS or any(len(pattern) > MAX_PATTERN for pattern in patterns):
        raise ValueError(f"it has more than {MAX_PATTERNS} patterns, or one of over {MAX_PATTERN} characters")
    if patterns:
        _try_in_child(json.dumps([{name: parsed.get(name) for name in _PARTS}, patterns]))


def _ids(parsed: Mapping[str, Any]) -> Iterator[int]:
    """The ids of a tokenizer.json; the library allocates memory up to the greatest."""
    vocabulary = (parsed.get("model") or {}).get("vocab")
    if isinstance(vocabulary, dict):
        yield max(vocabulary.values(), default=0)
    yield from (token["id"] for token in parsed.get("added_tokens") or [])


def _nested(part: Any) -> Iterator[Mapping[str, Any]]:
    """A step of the pipeline and the steps inside it."""
    if not isinstance(part, dict):
        return
    yield part
    for name in _LISTS:
        for inner in part.get(name) or ():
            yield from _nested(inner)


def _growth(part: Any) -> float:
    """By how much a normalizer or a decoder can lengthen a text."""
    growth, forms = 1.0, 1.0
    for step in _nested(part):
        kind = step.get("type")
        if kind == "Replace":
            pattern, n = step.get("pattern") or {}, len(step.get("content") or "")
            string = pattern.get("String")
            matched = (
                len(string) if string is not None else int(not _matches_nothing(pattern.get("Regex") or ""))
            )
            growth *= max(1.0, n / matched) if matched else 1 + n
        elif kind == "Precompiled":
            growth *= max(1, _longest_replacement(step.get("precompiled_charsmap") or ""))
        growth *= _STEP_GROWTH.get(str(kind), 1.0)
        forms = max(forms, _FORMS.get(str(kind), 1.0))
    return growth * forms


def _matches_nothing(pattern: str) -> bool:
    """Whether a pattern matches the empty text, as far as Python can tell; True where it cannot."""
    try:
        return re.match(pattern, "") is not None
    except (re.error, OverflowError, RecursionError):
        return True


@lru_cache(maxsize=8)
def _longest_replacement(table: str) -> int:
    """Characters of the longest replacement in a normalization table, which was checked before."""
    data = base64.b64decode(table)
    replacements = data[4 + int.from_bytes(data[:4], "little") :].split(b"\0")
    return max(len(one.decode("utf-8", "replace")) for one in replacements)


def _patterns(part: Any) -> Iterator[str]:
    for step in _nested(part):
        pattern = step.get("pattern")
        if isinstance(pattern, dict) and isinstance(pattern.get("Regex"), str):
            yield pattern["Regex"]


@lru_cache(maxsize=64)
def _try_in_child(request: str) -> None:
    """Compile and run the steps of a tokenizer.json in a child process; `ValueError` where it fails or takes too long."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", __file__],
            input=request.encode(),
            capture_output=True,
            timeout=SECONDS,
            env={"TOKENIZERS_PARALLELISM": "false"},
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"its patterns do not come to an end within {SECONDS:g} s") from None
    if done.stdout.strip() != b"bounded":
        reason = done.stdout.decode("utf-8", "replace").strip() or "its process ended (too much memory?)"
        raise ValueError(f"its patterns fail: {reason[:300]}")


def probes(patterns: Sequence[str]) -> list[str]:
    """Texts that make patterns backtrack: runs of one character, or of one word, that something else ends."""
    source = "".join(patterns)
    characters = dict.fromkeys("a1 \n.\u00e9\u4f60_-" + re.sub(r"[\\()\[\]{}|*+?^$]", "", source)[:200])
    words = dict.fromkeys(["ab ", "a1", *re.findall(r"\w{2,20}", source)[:50]])
    runs = [character * _RUN for character in characters] + [word * (_RUN // len(word)) for word in words]
    return [run + end for run in runs for end in ("", "!")] + [
        "",
        "It's 3.14, OK?\n\n  Gut, \u00fcber \u4f60\u597d.",
    ]


def _serve() -> None:
    """The child process."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from tokenizers import Tokenizer

    steps, patterns = json.loads(sys.stdin.buffer.read())
    try:
        model = {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}
        tokenizer = Tokenizer.from_str(
            json.dumps({"version": "1.0", "added_tokens": [], "model": model, **steps})
        )
        for text in probes(patterns):
            normalized = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
            if len(normalized) > MAX_GROWTH * (len(text) + MAX_AFFIX):
                raise ValueError(f"{len(text)} characters become {len(normalized)}")
            if tokenizer.pre_tokenizer:
                tokenizer.pre_tokenizer.pre_tokenize_str(normalized)
            if tokenizer.decoder:
                tokenizer.decoder.decode([text[i : i + 7] for i in range(0, min(len(text), 700), 7)])
    except BaseException as error:  # a panic of the library is no Exception
        answer = (str(error).splitlines() or [type(error).__name__])[0]
    else:
        answer = "bounded"
    os.write(1, answer.encode("utf-8", "replace"))


if __name__ == "__main__":
    _serve()
