"""Groups of row formats of `training.tasks`, for the declarations of checks."""

from __future__ import annotations

DECODER = ("text", "conversations", "prefixed_text")
SEQUENCES = ("masked_text", "source_target")
NOT_DECODER = (*SEQUENCES, "labelled", "text_pairs", "rankings")
ALL = (*DECODER, *NOT_DECODER)
SUMMED = (*DECODER, *SEQUENCES, "labelled")  # the loss is a sum over positions or rows
CLASSES = ("classify", "tag")  # tasks, of the format "labelled"
NAMED_LABELS = (*CLASSES, "multi_label")
