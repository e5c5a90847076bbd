"""Training by principles: a model criticises and revises its own answers, and prefers by principle (Bai et al. 2022)."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "PrincipleConfig": "principles",
        "critique_lessons": "critique_sft",
        "load_principles": "principles",
        "prefer": "ai_feedback",
        "revise": "critique_revision",
    },
)

__all__ = ["PrincipleConfig", "critique_lessons", "load_principles", "prefer", "revise"]
