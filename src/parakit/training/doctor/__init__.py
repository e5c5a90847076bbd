"""The doctor: looks at data, template, batches, objective and model before the first step, and stops what
would fail in silence.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "DoctorError": "examination",
        "Finding": "examination",
        "TokenView": "folders",
        "examine": "examination",
        "examine_folder": "folders",
        "examine_mixture": "mixture",
        "require_healthy": "examination",
        "trained_view": "folders",
    },
)
__all__ = [
    "DoctorError",
    "Finding",
    "TokenView",
    "examine",
    "examine_folder",
    "examine_mixture",
    "require_healthy",
    "trained_view",
]
