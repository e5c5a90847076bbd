"""Choices of inspection that settings name, without torch."""

from typing import Literal

AblationMethod = Literal["zero", "mean"]
BEHAVIOURS = {
    "reference": "which word a pronoun or name refers to",
    "long_range": "a link across several sentences",
    "agreement": "the verb agrees across a distractor",
    "meaning": "the meaning of a word by its context",
    "negation": "a negation turns the meaning around",
}
PairSet = Literal["english", "primer"]
