"""Special tokens: their names, their purposes, and which of them a tokenizer has.

Parakit's own tokenizers give them the lowest ids. BOS opens and EOS closes a document, PAD fills rows and
never counts, UNK stands for what the kind cannot spell, SEP, CLS and MASK serve the encoder families, and the
turn markers frame a conversation. A foreign tokenizer brings its own forms. PAD is never EOS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PURPOSES = ("bos", "eos", "pad", "unk", "sep", "cls", "mask")
ROLES = ("system", "user", "assistant", "tool")
END_OF_TURN = "end"
TURN_MARKERS = {name: f"<|{name}|>" for name in (*ROLES, END_OF_TURN)}
KINDS_WITH_UNK = ("wordpiece", "unigram", "word", "char")


@dataclass(frozen=True)
class SpecialTokens:
    """The special tokens of one tokenizer: purpose -> form, and turn marker name -> form."""

    forms: Mapping[str, str] = field(default_factory=dict)
    turns: Mapping[str, str] = field(default_factory=dict)

    def all_forms(self) -> list[str]:
        """Every form once, purposes first, in the order in which Parakit numbers them."""
        return list(
            dict.fromkeys([*(self.forms[p] for p in PURPOSES if p in self.forms), *self.turns.values()])
        )


def default_special_tokens(kind: str) -> SpecialTokens:
    """The special tokens of Parakit's own tokenizers; UNK only where the kind can meet the unknown."""
    forms = {name: f"<|{name}|>" for name in PURPOSES if name != "unk" or kind in KINDS_WITH_UNK}
    return SpecialTokens(forms, TURN_MARKERS)
