"""A set of conversations for tuning: exact duplicates left out, split into train and validation, as an
artifact folder.

Split by each conversation's own digest, as documents are. A conversation cannot be cut finer, so where a
small set leaves validation empty the fraction is doubled until it is not, up to a half; the report says
which fraction was used. Only there can a conversation move when others are added.

What was understood and has nothing to teach (it ends without an answer, an answer is empty, no answer counts) is left
out, counted and named. A conversation in which nobody answers at all is an error: it is no data for tuning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from parakit.common.artifacts import Lineage, open_artifact, writing_artifact
from parakit.common.errors import UserError
from parakit.common.files import write_json_atomic
from parakit.common.progress import Bar
from parakit.text.config import PrimerConfig, TextConfig
from parakit.text.conversations import Conversation, read_conversations
from parakit.text.deduplication import DigestSet
from parakit.text.inputs import check_paths, input_files
from parakit.text.records.left_out import LeftOut
from parakit.text.report import ReadReport
from parakit.text.splits import split_of

CONVERSATION_SPLITS = ("train", "validation")


def prepare_conversations(
    source: Sequence[str] | PrimerConfig,
    path: str | Path,
    *,
    validation_fraction: float = 0.05,
    overwrite: bool = False,
    progress: Bar | None = None,
) -> Path:
    """Read conversations from files (or folders of `.jsonl` and `.parquet`), or generate the primer's, into the artifact
    folder `path`.

    Raises `UserError` where a row is no conversation, where one has no assistant turn (nothing could be
    learned from it), and where there are too few to split. `progress` counts conversations.
    """
    lineage = Lineage("conversations", {"validation_fraction": validation_fraction})
    if isinstance(source, PrimerConfig):
        lineage.config["primer"], lineage.seed = source.model_dump(mode="json"), source.seed
    else:
        lineage.config["paths"] = list(source)
    fraction = validation_fraction
    with writing_artifact(path, lineage, overwrite) as folder:
        report = _write_splits(folder, source, fraction, progress)
        while fraction and fraction < 0.5 and not report["splits"]["validation"]:
            fraction = min(0.5, 2 * fraction)
            report = _write_splits(folder, source, fraction, progress)
        _check(report, validation_fraction)
        write_json_atomic(folder / "report.json", report)
        lineage.result = report
    return Path(path)


def iter_conversations(path: str | Path, split: str) -> Iterator[Conversation]:
    """Stream one split (`train` or `validation`) of a conversations folder."""
    if split not in CONVERSATION_SPLITS:
        raise UserError(f"{split!r} is no split", f"splits are {', '.join(CONVERSATION_SPLITS)}")
    return read_conversations(open_artifact(path, "conversations").path / f"{split}.jsonl")


def _write_splits(
    folder: Path, source: Sequence[str] | PrimerConfig, fraction: float, progress: Bar | None
) -> dict[str, Any]:
    known, n_duplicates, left_out = DigestSet(), 0, LeftOut()
    counts = dict.fromkeys(CONVERSATION_SPLITS, 0)
    with ExitStack() as stack:
        outputs = {
            split: stack.enter_context(open(folder / f"{split}.jsonl", "w", encoding="utf-8", newline="\n"))
            for split in CONVERSATION_SPLITS
        }
        for conversation in _source(source, left_out):
            digest = conversation.digest
            if not known.add(digest):
                n_duplicates += 1
                continue
            split = split_of(digest, fraction, 0.0)
            outputs[split].write(conversation.to_line())
            counts[split] += 1
            if progress:
                progress.advance(1)
    report = {"splits": counts, "duplicates": n_duplicates, "validation_fraction": fraction}
    if left_out.total:
        report |= {"left_out": left_out.counts, "left_out_rows": left_out.places}
    return report


def _source(source: Sequence[str] | PrimerConfig, left_out: LeftOut) -> Iterable[Conversation]:
    if isinstance(source, PrimerConfig):
        from parakit.text import primer

        return primer.conversations(source)
    return _read(source, left_out)


def _read(paths: Sequence[str], left_out: LeftOut) -> Iterator[Conversation]:
    check_paths(paths)
    seen = DigestSet()
    for path in paths:
        n = 0  # conversations of this path
        for file in input_files(path, TextConfig(), ReadReport(), seen):
            if file.kind not in ("jsonl", "parquet") and not file.named:
                continue
            for conversation in read_conversations(file.path):
                n += 1
                if all(message.role != "assistant" for message in conversation.messages):
                    raise UserError(
                        f"{file.source}, conversation {n}: has no assistant turn, so nothing can be learned",
                        "add the answer that the model should give, or take the row out",
                    )
                if reason := _nothing_to_learn(conversation):
                    left_out.add(reason, f"{file.source}, conversation {n}")
                    continue
                yield conversation
        if not n:
            raise UserError(f"{path}: no conversations found", "give .jsonl files, one conversation a line")


def _nothing_to_learn(conversation: Conversation) -> str | None:
    """Why a conversation is left out; None where it is not."""
    if conversation.messages[-1].role != "assistant":
        return "it ends without an answer"
    counted = [message for message in conversation.messages if message.role == "assistant" and message.weight]
    if not counted:
        return "no answer counts (weight 0)"
    return "an answer is empty" if any(not message.content.strip() for message in counted) else None


def _check(report: dict[str, Any], validation_fraction: float) -> None:
    n_train, n_validation = (report["splits"][split] for split in CONVERSATION_SPLITS)
    if n_train and (n_validation or not validation_fraction):
        return
    hint = "give more conversations, or set validation_fraction to 0 to train on all of them"
    raise UserError(
        f"{n_train + n_validation} different conversations cannot be split into train and validation", hint
    )
