"""How far a model that is stored in another dtype is from the one that it was: the largest difference of their logits.

Both are computed with in float32, on the beginnings of the built-in general texts, as for a merge (`merge_check`). It is
measured where a command rounds weights, and printed; over the limit of the dtype it is a warning, for the folder is what was
asked for.
"""

from __future__ import annotations

from pathlib import Path

from parakit.checkpoints.loading import load_model
from parakit.common.progress import log
from parakit.compression.merge_check import (
    MAX_LOGIT_DIFFERENCE,
    LogitDifference,
    largest_difference,
    merge_prompts,
    prompt_logits,
)
from parakit.inference.folder_settings import is_chat_tuned


def measure_rounding(before: str | Path, after: str | Path, dtype: str) -> LogitDifference | None:
    """The difference between two model folders, logged; None for a model that predicts no next tokens."""
    prompts = merge_prompts((), None)
    logits = []
    for folder in (before, after):
        model, tokenizer = load_model(folder, dtype="float32")
        logits.append(prompt_logits(model.eval(), tokenizer, prompts, is_chat_tuned(Path(before))))
        del model
    if logits[0] is None or logits[1] is None:
        return None
    found = largest_difference(logits[0], logits[1], prompts, MAX_LOGIT_DIFFERENCE[dtype])
    log(f"stored in {dtype}: logits differ by {found.largest:.2g} at most, on {found.n_prompts} prompts")
    if not found.largest <= found.limit:
        log(
            f"warning: that is over {found.limit:g}, and answers may change (after {found.prompt[:60]!r}); float32 keeps them"
        )
    return found
