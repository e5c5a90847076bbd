"""The doctor: checks of data, template, batches, objective and model before the first step, each against a mistake that
would not stop a run by itself. docs/pitfalls.md lists them.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "CheckResult": "registry",
        "DoctorError": "run",
        "TokenView": "folders",
        "check_folder": "folders",
        "check_replay": "run",
        "document_views": "folders",
        "raise_first_failure": "run",
        "run_checks": "run",
    },
)
__all__ = [
    "CheckResult",
    "DoctorError",
    "TokenView",
    "check_folder",
    "check_replay",
    "document_views",
    "raise_first_failure",
    "run_checks",
]
