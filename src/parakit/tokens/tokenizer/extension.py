"""A larger vocabulary for a published tokenizer: new tokens learned on one's own text.

Every old id stays, and the result is a plain tokenizer.json. BPE is continued: each word of the text is encoded by the
old tokenizer, and more merges are learned over the tokens that come out. They rank below all old ones, so a text is first
encoded as before, and then the new merges join what is left apart; no merge makes a token that exists already, which keeps
both steps apart. Unigram gets the same new tokens as pieces, with scores that favour them over their parts. A model takes
the new tokens' first embedding rows from those parts.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers import pre_tokenizers

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.tokens.tokenizer.exact_training import learn_merges
from parakit.tokens.tokenizer.fast_encoding import fix_surrogates
from parakit.tokens.tokenizer.tokenizer import Tokenizer

MIN_COUNT = 2  # a pair that occurs once would be a row for one place of the text
_UNKNOWN = ""
_SPACE = "\u2581"  # sentencepiece's
_FAVOUR = 0.1  # nats by which a new Unigram piece is better than its parts, at least


@dataclass(frozen=True)
class ExtendedTokenizer:
    """A tokenizer with new tokens, and what they are made of."""

    tokenizer: Tokenizer
    pieces: dict[int, tuple[int, ...]]
    """The old ids that each new id replaces, in the order of the text; new ids follow the old ones without a gap."""
    tokens_per_word_before: float
    tokens_per_word_after: float
    """Tokens per word (separated by white space) of the texts that the tokens were learned on."""


def extend_tokenizer(
    tokenizer: Tokenizer, texts: Iterable[str], new: int | Sequence[str]
) -> ExtendedTokenizer:
    """`tokenizer` with `new` more tokens learned on `texts` (read once), or with those of a list.

    Fewer come out where no more pairs of tokens occur twice. A string of a list stands for the word with the space before
    it; the tokens on the way to it, from its left end, are made too. Raises `UserError` for a tokenizer that has no merges
    or pieces to continue, and for a listed string that is no single word, or a token already.
    """
    extender = _Extender(tokenizer)
    word_counts, n_words = extender.count(texts)
    if not isinstance(new, int):
        merges = extender.listed(new)
    elif n_words:
        merges = extender.learn(word_counts, new)
    else:
        raise UserError("there is no text to learn new tokens on", "check that the input holds readable text")
    extended, pieces = extender.extend(merges, word_counts)
    before, after = (
        sum(count * len(one.tokenize(word)) for word, count in word_counts.items()) / max(n_words, 1)
        for one in (extender.model, HuggingFaceTokenizer.from_str(extended.json).model)
    )
    return ExtendedTokenizer(extended, pieces, before, after)


class _Extender:
    """The parts of one tokenizer that an extension reads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self.parsed = tokenizer, tokenizer.parsed_json
        kind = self.parsed["model"]["type"]
        if kind not in ("BPE", "Unigram") or tokenizer.target_json is not None:
            what = "has two vocabularies" if tokenizer.target_json else f"is a {tokenizer.kind}"
            raise UserError(
                f"this tokenizer {what}, which new tokens cannot extend",
                "extend a BPE or Unigram tokenizer, or train a new one",
            )
        backend = HuggingFaceTokenizer.from_str(tokenizer.json)
        self.model, self._splitter = backend.model, backend.pre_tokenizer
        self._is_unigram = kind == "Unigram"
        controls = {*tokenizer.special_tokens.values(), tokenizer.unk_id}
        self._unusable = {_UNKNOWN, *(f"<0x{byte:02X}>" for byte in range(256))}
        self._unusable |= {tokenizer.token(i) for i in controls if i is not None}

    def count(self, texts: Iterable[str]) -> tuple[Counter[str], int]:
        """How often each word occurs, as the tokenizer splits text, and the number of words between white space."""
        counts: Counter[str] = Counter()
        n_words = 0
        for text in texts:
            n_words += len(text.split())
            counts.update(self._words(text))
        return counts, n_words

    def _words(self, text: str) -> list[str]:
        text = self.tokenizer.normalize(fix_surrogates(text))
        splitter = self._splitter or pre_tokenizers.Split(_SPACE, "merged_with_next")
        return [word for word, _ in splitter.pre_tokenize_str(text)]

    def _tokens(self, word: str) -> list[str]:
        """The word's tokens; `_UNKNOWN` for characters outside the vocabulary."""
        known = self.tokenizer.vocabulary
        tokens = self.model.tokenize(word)
        return [token.value if known.get(token.value) == token.id else _UNKNOWN for token in tokens]

    def learn(self, word_counts: Counter[str], n_new: int) -> list[tuple[str, ...]]:
        """New merges in their order. Unknown characters and bytes outside the vocabulary are not merged."""
        sequences: Counter[tuple[bytes, ...]] = Counter()
        for word, count in word_counts.items():
            for usable, run in groupby(self._tokens(word), lambda token: token not in self._unusable):
                tokens = tuple(token.encode() for token in run)
                if usable and len(tokens) > 1:
                    sequences[tokens] += count
        known = {token.encode() for token in self.tokenizer.vocabulary}
        merges = learn_merges(sequences, n_new, known=known, min_count=MIN_COUNT)
        return [(left.decode(), right.decode()) for left, right in merges]

    def listed(self, strings: Sequence[str]) -> list[tuple[str, ...]]:
        """The merges that make one token of each string with a space before it, from its left end."""
        ranks: dict[tuple[str, ...], int] = {}
        for string in strings:
            words = self._words(f" {string.strip()}")
            tokens = self._tokens(words[-1]) if words else []
            if len(words) != 1 or not string.strip() or self._unusable.intersection(tokens):
                unknown = "has characters that the tokenizer does not know"
                reason = (
                    unknown if len(words) == 1 else f"is split by the tokenizer into {words or 'nothing'}"
                )
                raise UserError(
                    f"{string!r} cannot become one token: it {reason}",
                    "list words of letters that the tokenizer knows and does not split",
                )
            if "".join(tokens) in self.tokenizer.vocabulary:
                raise UserError(f"{string!r} is a token already", "remove it from the list")
            if self._is_unigram:
                ranks.setdefault(tuple(tokens), len(ranks))
                continue
            tokens = _merged(tokens, ranks)
            while len(tokens) > 1:
                ranks.setdefault((tokens[0], tokens[1]), len(ranks))
                tokens = ["".join(tokens[:2]), *tokens[2:]]
        return list(ranks)

    def extend(
        self, merges: list[tuple[str, ...]], word_counts: Counter[str]
    ) -> tuple[Tokenizer, dict[int, tuple[int, ...]]]:
        """The tokenizer with these merges, and the old ids in each new token."""
        old = self.tokenizer.vocabulary
        parts: dict[str, tuple[int, ...]] = {token: (token_id,) for token, token_id in old.items()}
        new_ids: dict[str, int] = {}
        for merge in merges:
            joined = "".join(merge)
            if joined not in parts:
                parts[joined] = tuple(token_id for part in merge for token_id in parts[part])
                new_ids[joined] = self.tokenizer.vocab_size + len(new_ids)
        model = dict(self.parsed["model"])
        if self._is_unigram:
            model["vocab"] = self._scored(merges, new_ids, parts, word_counts)
        else:
            # Added tokens outside the model keep their ids only if the model lists them.
            model["vocab"] = model["vocab"] | old | new_ids
            listed = [merge if isinstance(merge, list) else merge.split(" ") for merge in model["merges"]]
            model["merges"] = [*listed, *map(list, merges)]
        extended = self._rebuild(self.parsed | {"model": model})
        moved = [token for token, token_id in (old | new_ids).items() if extended.token_id(token) != token_id]
        assert not moved, f"ids changed: {moved[:5]}"
        return extended, {token_id: parts[token] for token, token_id in new_ids.items()}

    def _scored(
        self,
        merges: list[tuple[str, ...]],
        new_ids: dict[str, int],
        parts: dict[str, tuple[int, ...]],
        word_counts: Counter[str],
    ) -> list[list[object]]:
        """The Unigram vocabulary: old scores, then the new pieces by their share of the text's tokens."""
        vocabulary = [list(entry) for entry in self.parsed["model"]["vocab"]]
        by_id = {token_id: token for token, token_id in self.tokenizer.vocabulary.items()}
        lowest = min(score for _, score in vocabulary)
        for token_id in range(len(vocabulary), self.tokenizer.vocab_size):  # added tokens keep their ids
            vocabulary.append([by_id.get(token_id, f"<unused_{token_id}>"), lowest])
        ranks = {merge: rank for rank, merge in enumerate(merges)}
        uses: Counter[str] = Counter()
        for word, count in word_counts.items():
            for token in _merged(self._tokens(word), ranks):
                uses[token] += count
        for token in new_ids:
            share = math.log(max(uses[token], 1) / max(uses.total(), 1))
            favoured = sum(vocabulary[part][1] for part in parts[token]) + _FAVOUR
            vocabulary.append([token, max(share, favoured)])
        return vocabulary

    def _rebuild(self, parsed: JsonObject) -> Tokenizer:
        return Tokenizer(
            json.dumps(parsed, ensure_ascii=False),
            kind=self.tokenizer.kind,
            special=self.tokenizer.special,
            **self.tokenizer.chat_settings,
            published=self.tokenizer.published,
        )


def _merged(tokens: list[str], ranks: Mapping[tuple[str, ...], int]) -> list[str]:
    """`tokens` after these merges, in the order of their ranks."""
    while len(tokens) > 1:
        best = min(pairwise(tokens), key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            break
        joined, i = [], 0
        while i < len(tokens):
            step = 2 if tuple(tokens[i : i + 2]) == best else 1
            joined.append("".join(tokens[i : i + step]))
            i += step
        tokens = joined
    return tokens
