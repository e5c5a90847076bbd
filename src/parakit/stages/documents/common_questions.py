"""Questions that people put to documents of many kinds. Where a document has none of a question's words, it does not answer
it, however well it is found: such a question teaches a model to refuse instead of giving another fact of the document.
"""

from __future__ import annotations

from collections.abc import Sequence

from parakit.data.conversations.from_documents.checks import content_words

_STEM = 4  # first letters of a word, so that "owner" is found in "owned"
_COMMON_QUESTIONS = (
    "How many people live in {title}?",
    "How much does {title} cost?",
    "Who is the owner of {title}?",
    "Which telephone number belongs to {title}?",
    "What is the weather like in {title}?",
    "Which languages are spoken in {title}?",
    "Who is the mayor of {title}?",
    "What colour is {title}?",
    "How long does {title} take?",
    "Which airport is nearest to {title}?",
    "Who are the competitors of {title}?",
    "Which awards has {title} won?",
    "How many visitors come to {title} each year?",
    "What do critics write about {title}?",
    "How far is {title} from the capital?",
    "Which song is about {title}?",
    "Who insures {title}?",
    "How many teachers does {title} have?",
    "Which newspaper reports on {title}?",
    "How much does {title} weigh?",
    "What do children like best about {title}?",
    "Who is the most famous painter of {title}?",
    "At what time does {title} open in the morning?",
    "How many hospitals are there for {title}?",
)


def common_question(title: str, texts: Sequence[str], part: float) -> str | None:
    """A question about `title` that none of the texts answers, chosen by `part` in [0, 1); None where each might be answered.
    A text might answer it where it has a word that begins like a content word of the question.
    """
    words = " ".join(texts).casefold().split()
    starts = {word.strip("\"'([{*_#-")[:_STEM] for word in words}
    silent = [
        question
        for question in _COMMON_QUESTIONS
        if not any(word[:_STEM] in starts for word in content_words(question.replace("{title}", "")))
    ]
    return silent[int(part * len(silent))].format(title=title) if silent else None
