"""Judging: loss and bits per byte over whole splits, the figures of a task, the primer's suites, and how sure a
figure is.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "EvaluationConfig": "config",
        "ExampleResult": "examples",
        "Figure": "intervals",
        "LossResult": "perplexity",
        "PairedDifference": "intervals",
        "SuiteResult": "suites",
        "evaluate_examples": "examples",
        "evaluate_loss": "perplexity",
        "evaluate_model": "evaluate",
        "evaluate_text": "perplexity",
        "paired_difference": "intervals",
        "run_suites": "suites",
        "wilson_interval": "intervals",
        "write_evaluation": "evaluate",
    },
)

__all__ = [
    "EvaluationConfig",
    "ExampleResult",
    "Figure",
    "LossResult",
    "PairedDifference",
    "SuiteResult",
    "evaluate_examples",
    "evaluate_loss",
    "evaluate_model",
    "evaluate_text",
    "paired_difference",
    "run_suites",
    "wilson_interval",
    "write_evaluation",
]
