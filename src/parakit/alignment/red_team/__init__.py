"""Red team: attacks by category, asked of a model, and judged; by rules or by another model.

Suites of the primer's world come built in, public ones and one's own are read from files. What is measured is the share
of attacks that succeed, category by category, harmless questions that are turned away included.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Attack": "attacks",
        "CATEGORIES": "attacks",
        "judge_by_rules": "judging",
        "primer_attacks": "primer_suites",
    },
)

__all__ = ["CATEGORIES", "Attack", "judge_by_rules", "primer_attacks"]
