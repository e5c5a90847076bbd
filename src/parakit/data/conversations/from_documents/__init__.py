"""Questions and answers out of documents: passages, the form in which a model writes them, and the checks of each pair."""

from parakit.data.conversations.from_documents.checks import PairChecker, lacks_answer
from parakit.data.conversations.from_documents.config import DocumentQuestionsConfig
from parakit.data.conversations.from_documents.pairs import Pair, parse_pairs
from parakit.data.conversations.from_documents.passages import Passage, passages_of

__all__ = [
    "DocumentQuestionsConfig",
    "Pair",
    "PairChecker",
    "Passage",
    "lacks_answer",
    "parse_pairs",
    "passages_of",
]
