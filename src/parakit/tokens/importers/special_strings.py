"""Which token of a published tokenizer serves which purpose.

A folder says so in tokenizer_config.json or special_tokens_map.json. Where it leaves a purpose out, the class that it
names fills it in, as transformers does; where it says nothing at all, the forms of the well-known families are looked
for. A purpose that is set to null stays empty, and a form that is not in the vocabulary counts as absent.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from parakit.tokens.tokenizer.special_tokens import PURPOSES, SENTINEL, TURN_MARKERS, SpecialTokens

_BERT = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
_GPT2 = {"bos": "<|endoftext|>", "eos": "<|endoftext|>"}
_BART = {
    "bos": "<s>",
    "eos": "</s>",
    "sep": "</s>",
    "cls": "<s>",
    "unk": "<unk>",
    "pad": "<pad>",
    "mask": "<mask>",
}
_LLAMA = {"bos": "<s>", "eos": "</s>", "unk": "<unk>"}
_T5 = {"eos": "</s>", "unk": "<unk>", "pad": "<pad>"}
CLASS_FORMS: dict[str, dict[str, str]] = {
    "BertTokenizer": _BERT,
    "DistilBertTokenizer": _BERT,
    "ElectraTokenizer": _BERT,
    "GPT2Tokenizer": _GPT2,
    "RobertaTokenizer": _BART,
    "BartTokenizer": _BART,
    "LlamaTokenizer": _LLAMA,
    "T5Tokenizer": _T5,
    "MarianTokenizer": _T5,
    "Qwen2Tokenizer": {"eos": "<|endoftext|>", "pad": "<|endoftext|>"},
}
_SENTINEL = re.compile(re.escape(SENTINEL).replace(r"\{\}", r"(\d{1,6})"))


def tokenizer_class(settings: Mapping[str, Any]) -> str | None:
    """The class that a tokenizer_config.json names, without the "Fast" that some say and some do not."""
    name = settings.get("tokenizer_class")
    return name.removesuffix("Fast") if isinstance(name, str) else None


def special_tokens(settings: Mapping[str, Any], known: Collection[str]) -> SpecialTokens:
    """Purposes and their forms, from the merged tokenizer_config.json and special_tokens_map.json; `known` are all
    forms of the vocabulary.
    """
    named = {purpose: _form(settings.get(f"{purpose}_token")) for purpose in PURPOSES}
    defaults = CLASS_FORMS.get(tokenizer_class(settings) or "", {})
    if not defaults and not any(named.values()):
        defaults = next(
            (forms for forms in (_BERT, _BART, _GPT2) if set(forms.values()) <= set(known)), _LLAMA | _T5
        )
    forms = {}
    for purpose, form in named.items():
        if form is None and f"{purpose}_token" not in settings:
            form = defaults.get(purpose)
        if form is not None and form in known:
            forms[purpose] = form
    # A tokenizer that knows every text names its end-of-text token here too: it would no longer be a control token.
    if forms.get("unk") in {form for purpose, form in forms.items() if purpose != "unk"}:
        del forms["unk"]
    if forms.get("pad") is not None and forms.get("pad") == forms.get("eos"):
        del forms["pad"]
    turns = TURN_MARKERS if set(TURN_MARKERS.values()) <= set(known) else {}
    return SpecialTokens(forms, turns, sentinel_forms(known))


def sentinel_forms(known: Collection[str]) -> tuple[str, ...]:
    """The sentinels among `known`, in the order in which span corruption uses them."""
    found = [(int(match[1]), form) for form in known if (match := _SENTINEL.fullmatch(form))]
    return tuple(form for number, form in sorted(found) if form == SENTINEL.format(number))


def _form(value: Any) -> str | None:
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else None
