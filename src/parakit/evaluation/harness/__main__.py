"""lm-eval's own command line with Parakit's models in it: `python -m parakit.evaluation.harness run --model parakit
--model_args path=FOLDER --tasks arc_easy`.
"""

from __future__ import annotations

from parakit.common.errors import UserError
from parakit.evaluation.harness.task_index import require_harness


def main() -> None:
    """Register the model and run lm-eval on the arguments of this process."""
    try:
        require_harness()
        import parakit.evaluation.harness.registration  # noqa: F401, I001  # registers the model
        from lm_eval.__main__ import cli_evaluate

        cli_evaluate()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
