"""The primer: a small closed world in plain English, written by a generator that is deterministic in its seed.

It gives documents to read, conversations to tune on, examples of tasks, and eight suites of held-out questions, so
that every stage of a recipe can run and be measured without a network. A keyed hash of the combination that a question
asks about (`seeded_random.is_held_out`) decides what is held out. Each suite has its module in `skills/`; `world.py`
holds the facts.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "CHANCE": "grading",
        "PrimerConfig": "config",
        "SUITES": "grading",
        "SuiteItem": "grading",
        "compute_statistics": "statistics",
        "generate_conversations": "generation",
        "generate_documents": "generation",
        "generate_examples": "examples",
        "generate_preferences": "examples",
        "generate_suites": "generation",
        "is_correct": "grading",
        "plain_prompt": "grading",
    },
)

__all__ = [
    "CHANCE",
    "SUITES",
    "PrimerConfig",
    "SuiteItem",
    "compute_statistics",
    "generate_conversations",
    "generate_documents",
    "generate_examples",
    "generate_preferences",
    "generate_suites",
    "is_correct",
    "plain_prompt",
]
