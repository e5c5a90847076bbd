"""Special tokens: their names, their purposes, and which of them a tokenizer has.

Parakit's own tokenizers give them the lowest ids. BOS opens and EOS closes a document, PAD fills rows and
never counts, UNK stands for what the kind cannot spell, SEP, CLS and MASK serve the encoder families, the turn
markers frame a conversation, and sentinels, written as T5's, stand for what span corruption hid. A foreign tokenizer
brings its own forms. PAD is never EOS.
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
    """The special tokens of one tokenizer: purpose -> form, turn marker name -> form, and the sentinels in the order
    in which span corruption uses them.
    """

    strings: Mapping[str, str] = field(default_factory=dict)
    turns: Mapping[str, str] = field(default_factory=dict)
    sentinels: tuple[str, ...] = ()

    @property
    def is_parakit_default(self) -> bool:
        """Whether these are Parakit's own forms, of which decoders, encoders and both together each use some."""
        return all(self.strings.get(name) == f"<|{name}|>" for name in ("bos", "eos", "sep", "cls"))

    def all_strings(self) -> list[str]:
        """Every form once, purposes first, in the order in which Parakit numbers them."""
        named = [self.strings[purpose] for purpose in PURPOSES if purpose in self.strings]
        return list(dict.fromkeys([*named, *self.turns.values(), *self.sentinels]))


def default_special_tokens(kind: str, n_sentinels: int = 0) -> SpecialTokens:
    """The special tokens of Parakit's own tokenizers; UNK only where the kind can meet the unknown."""
    forms = {name: f"<|{name}|>" for name in PURPOSES if name != "unk" or kind in KINDS_WITH_UNK}
    return SpecialTokens(forms, TURN_MARKERS, tuple(SENTINEL.format(i) for i in range(n_sentinels)))
