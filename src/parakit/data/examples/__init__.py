"""Examples of a task: rows of text with a label, tags, a score, a translation or a text of like meaning; read from
files, checked, and prepared as sets.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "EXAMPLE_SPLITS": "sets",
        "TASK_FORMATS": "formats",
        "ExampleRow": "formats",
        "load_examples_report": "sets",
        "iter_examples": "sets",
        "prepare_examples": "sets",
        "read_examples": "readers",
    },
)

__all__ = [
    "EXAMPLE_SPLITS",
    "TASK_FORMATS",
    "ExampleRow",
    "load_examples_report",
    "iter_examples",
    "prepare_examples",
    "read_examples",
]
