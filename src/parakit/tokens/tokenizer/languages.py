"""The languages of a multilingual encoder-decoder, which are tokens.

mBART, mBART-50, NLLB and M2M100 put the source's language next to the source. The target's is the first token of the output
(a forced BOS), but mBART's decoder starts with it. Marian's models with several targets (opus-mt-en-ROMANCE) read `>>fr<<`
in front of the source.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from parakit.common.errors import UserError
from parakit.common.settings import closest_match
from parakit.tokens.tokenizer.special_tokens_template import SpecialTokensTemplate, special_tokens_template
from parakit.tokens.tokenizer.tokenizer import Tokenizer

# fr_XX (mBART), fra_Latn (NLLB), __fr__ (M2M100), >>fra<< (Marian)
_CODE = re.compile(r"([a-z]{2,3}_(?:[A-Z]{2}|[A-Z][a-z]{3}))|__([a-z]{2,3})__|>>([\w-]+)<<")
_N_LISTED = 8


@dataclass(frozen=True)
class LanguageTokens:
    """Where the languages of a translation stand; None: as the folder says."""

    before_source: int | None = None
    in_source: int | None = None
    """Replaces the source's language that the tokenizer adds by default."""
    start_id: int | None = None
    forced_bos_id: int | None = None

    def apply(self, sources: Sequence[Sequence[int]], tokenizer: Tokenizer) -> list[list[int]]:
        """The sources, encoded with their special tokens, with the chosen languages."""
        before, after = special_tokens_template(tokenizer, "encoder-decoder", 1).parts
        codes = set(language_ids(tokenizer).values())
        chosen = []
        for source in map(list, sources):
            if self.in_source is not None:
                for i in (*range(len(before)), *range(len(source) - len(after), len(source))):
                    source[i] = self.in_source if source[i] in codes else source[i]
            chosen.append(source if self.before_source is None else [self.before_source, *source])
        return chosen

    def frames(
        self, template: SpecialTokensTemplate, tokenizer: Tokenizer
    ) -> tuple[SpecialTokensTemplate, SpecialTokensTemplate]:
        """Around a source, `template` with the chosen languages; around a target, the language that it begins with where
        the decoder does not start with it, and EOS (transformers' `text_target`).
        """
        assert tokenizer.eos_id is not None
        codes = set(language_ids(tokenizer).values())
        before, after = template.parts
        if self.in_source is not None:
            before, after = (
                tuple(self.in_source if i in codes else i for i in part) for part in (before, after)
            )
        if self.before_source is not None:
            before = (self.before_source, *before)
        target = [i for i in template.parts[0] if i not in codes]
        target += [] if self.forced_bos_id is None else [self.forced_bos_id]
        return template.with_parts(before, after), template.with_parts(tuple(target), (tokenizer.eos_id,))


def language_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """The tokenizer's languages, as a user writes them ("fr_XX", "fra_Latn", "fr"), and their ids; empty without any."""
    found = {}
    for token_id in sorted(tokenizer.control_ids):
        match = _CODE.fullmatch(tokenizer.token(token_id))
        if match:
            found[next(code for code in match.groups() if code)] = token_id
    return found


def language_tokens(
    tokenizer: Tokenizer, decoder_start_id: int, source: str | None, target: str | None
) -> LanguageTokens:
    """The tokens of a translation from `source` to `target`, by a decoder that starts with `decoder_start_id`. Raises
    `UserError` for a language that the tokenizer does not have, and for a source language where the tokenizer adds none.
    """
    in_source = start = forced = before = None
    if source is not None:
        in_source = _find(tokenizer, source, "source")
        parts = special_tokens_template(tokenizer, "encoder-decoder", 1).parts
        if set(language_ids(tokenizer).values()).isdisjoint(token_id for part in parts for token_id in part):
            raise UserError(
                f"source_language = {source!r}, and this model reads no language next to a source",
                "leave it out",
            )
    if target is not None:
        token_id = _find(tokenizer, target, "target")
        if tokenizer.token(token_id).startswith(">>"):
            before = token_id
        elif decoder_start_id == tokenizer.eos_id:
            forced = token_id
        else:
            start = token_id
    return LanguageTokens(before, in_source, start, forced)


def _find(tokenizer: Tokenizer, language: str, side: str) -> int:
    known = language_ids(tokenizer)
    code = language if language in known else language.strip("_<>")
    if code in known:
        return known[code]
    if not known:
        raise UserError(
            f"{side}_language = {language!r}, and this model's tokenizer has no tokens for languages",
            "leave it out",
        )
    near = closest_match(language, known)
    listed = ", ".join(list(known)[:_N_LISTED])
    raise UserError(
        f"{side}_language = {language!r} is none of the {len(known)} languages of this model's tokenizer",
        f"{f'did you mean {near}? ' if near else ''}it has {listed}{', ...' if len(known) > _N_LISTED else ''}",
    )
