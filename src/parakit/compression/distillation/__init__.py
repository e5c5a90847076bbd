"""Distillation: a smaller model, the student, learns how likely a larger one, the teacher, finds each token."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "LogitsFacts": "teacher_logits",
        "OnPolicySource": "on_policy",
        "Teacher": "teacher",
        "TeacherLogits": "teacher_logits",
        "check_same_vocabulary": "checks",
        "distillation": "losses",
        "examine_distillation": "checks",
        "layers_kept": "students",
        "student_from_layers": "students",
    },
)

__all__ = [
    "LogitsFacts",
    "OnPolicySource",
    "Teacher",
    "TeacherLogits",
    "check_same_vocabulary",
    "distillation",
    "examine_distillation",
    "layers_kept",
    "student_from_layers",
]
