"""Special tokens: their names, their purposes, and which of them a tokenizer has.

Parakit's own tokenizers give them the lowest ids. BOS opens and EOS closes a document, PAD fills rows and never counts,
UNK replaces text outside the vocabulary, encoders use SEP, CLS and MASK, turn markers separate the turns of a
conversation, and sentinels, written as T5's, replace the spans that span corruption hides. A third-party tokenizer has
its own strings. PAD is never EOS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PURPOSES = ("bos", "eos", "pad", "unk", "sep", "cls", "mask")
ROLES = ("system", "user", "assistant", "tool")
END_OF_TURN = "end"
TURN_MARKERS = {name: f"<|{name}|>" for name in (*ROLES, END_OF_TURN)}
SENTINEL = "<extra_id_{}>"
KINDS_WITH_UNK = ("wordpiece", "unigram", "word", "char")


@dataclass(frozen=True)
class SpecialTokens:
    """The special tokens of one tokenizer: purpose -> string, turn marker name -> string, and the sentinels in the order
    in which span corruption uses them.
    """

    strings: Mapping[str, str] = field(default_factory=dict)
    turns: Mapping[str, str] = field(default_factory=dict)
    sentinels: tuple[str, ...] = ()

    @property
    def is_parakit_default(self) -> bool:
        """Whether these are the special tokens of a tokenizer that Parakit trained, which suit every model family."""
        return all(self.strings.get(name) == f"<|{name}|>" for name in ("bos", "eos", "sep", "cls"))

    def all_strings(self) -> list[str]:
        """Every string once, purposes first, in the order in which Parakit numbers them."""
        named = [self.strings[purpose] for purpose in PURPOSES if purpose in self.strings]
        return list(dict.fromkeys([*named, *self.turns.values(), *self.sentinels]))


def default_special_tokens(kind: str, n_sentinels: int = 0) -> SpecialTokens:
    """The special tokens of Parakit's own tokenizers; UNK only where the kind needs one."""
    strings = {name: f"<|{name}|>" for name in PURPOSES if name != "unk" or kind in KINDS_WITH_UNK}
    return SpecialTokens(strings, TURN_MARKERS, tuple(SENTINEL.format(i) for i in range(n_sentinels)))
