"""The special tokens of a published tokenizer by purpose.

A folder lists them in tokenizer_config.json or special_tokens_map.json. A purpose that is missing there gets the default
of the tokenizer class, as in transformers; where none is listed, the strings of well-known families are searched. A
purpose that is set to null stays empty, and a string outside the vocabulary counts as absent.
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
_CLIP = {"bos": "<|startoftext|>", "eos": "<|endoftext|>", "unk": "<|endoftext|>", "pad": "<|endoftext|>"}
CLASS_SPECIAL_TOKENS: dict[str, dict[str, str]] = {
    "BertTokenizer": _BERT,
    "DistilBertTokenizer": _BERT,
    "ElectraTokenizer": _BERT,
    "GPT2Tokenizer": _GPT2,
    "RobertaTokenizer": _BART,
    "BartTokenizer": _BART,
    "LlamaTokenizer": _LLAMA,
    "T5Tokenizer": _T5,
    "MarianTokenizer": _T5,
    "XLMRobertaTokenizer": _BART,
    "MBartTokenizer": _BART,
    "MBart50Tokenizer": _BART,
    "NllbTokenizer": _BART,
    "M2M100Tokenizer": _BART,
    "PegasusTokenizer": _T5 | {"mask": "<mask_2>"},
    "DebertaV2Tokenizer": _BERT | {"bos": "[CLS]", "eos": "[SEP]"},
    "MPNetTokenizer": _BART | {"unk": "[UNK]"},
    "GemmaTokenizer": {"bos": "<bos>", "eos": "<eos>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask>"},
    "CLIPTokenizer": _CLIP,
    "OpenAIGPTTokenizer": {"unk": "<unk>"},
    "Qwen2Tokenizer": {"eos": "<|endoftext|>", "pad": "<|endoftext|>"},
}
_SAME_CLASS = {
    "MT5Tokenizer": "T5Tokenizer",
    "LongformerTokenizer": "RobertaTokenizer",
    "LEDTokenizer": "BartTokenizer",
    "CodeGenTokenizer": "GPT2Tokenizer",
    "MobileBertTokenizer": "BertTokenizer",
    "ConvBertTokenizer": "BertTokenizer",
    "SqueezeBertTokenizer": "BertTokenizer",
    "LayoutLMTokenizer": "BertTokenizer",
}
_SENTINEL = re.compile(re.escape(SENTINEL).replace(r"\{\}", r"(\d{1,6})"))


def tokenizer_class(settings: Mapping[str, Any]) -> str | None:
    """The class that a tokenizer_config.json names, without the optional "Fast"; of classes that are the same under two
    names, the better known.
    """
    name = settings.get("tokenizer_class")
    return _SAME_CLASS.get(short := name.removesuffix("Fast"), short) if isinstance(name, str) else None


def read_special_tokens(settings: Mapping[str, Any], known: Collection[str]) -> SpecialTokens:
    """Purposes and their strings, from the merged tokenizer_config.json and special_tokens_map.json; `known` is the
    vocabulary.
    """
    named = {purpose: _string_of(settings.get(f"{purpose}_token")) for purpose in PURPOSES}
    defaults = CLASS_SPECIAL_TOKENS.get(tokenizer_class(settings) or "", {})
    if not defaults and not any(named.values()):
        defaults = next(
            (strings for strings in (_BERT, _BART, _GPT2) if set(strings.values()) <= set(known)),
            _LLAMA | _T5,
        )
    strings = {}
    for purpose, string in named.items():
        if string is None and f"{purpose}_token" not in settings:
            string = defaults.get(purpose)
        if string is not None and string in known:
            strings[purpose] = string
    # A tokenizer without unknown text names its end-of-text token as UNK too, which would make it no control token.
    if strings.get("unk") in {string for purpose, string in strings.items() if purpose != "unk"}:
        del strings["unk"]
    if strings.get("pad") is not None and strings.get("pad") == strings.get("eos"):
        del strings["pad"]
    turns = TURN_MARKERS if set(TURN_MARKERS.values()) <= set(known) else {}
    return SpecialTokens(strings, turns, find_sentinels(known))


def find_sentinels(known: Collection[str]) -> tuple[str, ...]:
    """The sentinels among `known`, in the order in which span corruption uses them."""
    found = [(int(match[1]), string) for string in known if (match := _SENTINEL.fullmatch(string))]
    return tuple(string for number, string in sorted(found) if string == SENTINEL.format(number))


def _string_of(value: Any) -> str | None:
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else None
