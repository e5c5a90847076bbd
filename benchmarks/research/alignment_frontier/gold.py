"""A reward that is known exactly, for a policy to follow: twelve different words that take up the question.

It is a deterministic function of prompt and completion, so a gain does not depend on who measures; and it can
be learned only in part from examples, so that following a learned copy of it goes wrong in the end.
"""

from __future__ import annotations

import re
from typing import Any

from parakit.alignment.rl.prompts import SampledCompletion

N_WORDS = 12


def gold(messages: list[dict[str, Any]], completion: str, answer: str | None = None) -> float:
    """A quarter for each different word up to twelve, less a quarter for each repeated one and half for each above
    twelve; 1 where a longer word of the question is taken up.
    """
    words = re.findall(r"[a-z']+", completion.lower())
    question = {word for word in re.findall(r"[a-z']+", messages[-1]["content"].lower()) if len(word) > 3}
    n, n_different = len(words), len(set(words))
    counted = min(n_different, N_WORDS) - 2 * max(0, n - N_WORDS) - (n - n_different)
    return counted / 4 + float(bool(question & set(words)))


def gold_of(sample: SampledCompletion) -> float:
    """The same of a sample."""
    messages = [{"role": message.role, "content": message.content} for message in sample.messages]
    return gold(messages, sample.completion)
