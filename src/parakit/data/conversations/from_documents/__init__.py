"""Questions and answers out of documents: passages, a model or rules that write them, and the checks of each pair."""

from parakit.data.conversations.from_documents.checks import PairChecker, lacks_answer
from parakit.data.conversations.from_documents.config import (
    DocumentQuestionsConfig,
    WrittenByModel,
    WrittenByRules,
)
from parakit.data.conversations.from_documents.pairs import Pair, parse_pairs
from parakit.data.conversations.from_documents.passages import Passage, passages_of
from parakit.data.conversations.from_documents.rules import pairs_by_rules

__all__ = [
    "DocumentQuestionsConfig",
    "Pair",
    "PairChecker",
    "Passage",
    "WrittenByModel",
    "WrittenByRules",
    "lacks_answer",
    "pairs_by_rules",
    "parse_pairs",
    "passages_of",
]
