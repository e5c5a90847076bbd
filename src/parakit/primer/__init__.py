"""The primer: a small closed world in plain English, written by a generator that is deterministic in its
seed.

It gives documents to read, conversations to tune on, examples of tasks, and eight suites of held-out questions, so
that the whole life of a model can be shown and measured without a network. What is held out is decided by a keyed
hash of the combination asked about (`draws.is_held_out`), never by luck. One module of `skills/` stands
behind each suite; `world.py` holds what is true.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "CHANCE": "grading",
        "PrimerConfig": "config",
        "SUITES": "grading",
        "SuiteItem": "grading",
        "conversations": "assembly",
        "documents": "assembly",
        "examples": "tasks",
        "is_correct": "grading",
        "plain_prompt": "grading",
        "preferences": "tasks",
        "statistics": "statistics",
        "suites": "assembly",
    },
)

__all__ = [
    "CHANCE",
    "SUITES",
    "PrimerConfig",
    "SuiteItem",
    "conversations",
    "documents",
    "examples",
    "is_correct",
    "plain_prompt",
    "preferences",
    "statistics",
    "suites",
]
