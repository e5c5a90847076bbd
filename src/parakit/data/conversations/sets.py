"""A set of conversations for fine-tuning: deduplicated, split into train and validation, as an artifact folder.

Each conversation's own digest decides its split, as for documents. Where a small set leaves validation empty, its
fraction is doubled up to a half, and the report gives the fraction used; only there can other rows move a conversation.

Several files can be mixed in given proportions (`shares`), which apply to the train split: a source's held-out
conversations stay as they are, and a source of share 0 is left out.

A conversation without anything to train on (it ends without an answer, an answer is empty, no answer has a weight) is
skipped, counted and named; one without any assistant turn is an error.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from parakit.common.artifacts import Lineage, writing_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, write_json_atomic
from parakit.common.progress import Bar
from parakit.data.config import TextConfig
from parakit.data.conversations.conversation import (
    Conversation,
    locate_conversations,
    read_conversations,
)
from parakit.data.duplicates.digest_set import DigestSet
from parakit.data.mixing import allocate, check_shares, repeats
from parakit.data.read_report import ReadReport
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.inputs import check_paths, input_files
from parakit.data.readers.lines import RowStream, open_text
from parakit.data.row_report import RowReport, skip_summary
from parakit.data.sources import GeneratedSource, Source, record_source
from parakit.data.splits import split_of, split_path, writing_splits

CONVERSATION_SPLITS = ("train", "validation")


def prepare_conversations(
    source: Source[Conversation],
    path: str | Path,
    *,
    validation_fraction: float = 0.05,
    shares: Sequence[float] = (),
    seed: int = 0,
    overwrite: bool = False,
    progress: Bar | None = None,
) -> Path:
    """Read conversations from files (or folders of JSON and Parquet files of rows), or generate them, into the artifact folder
    `path`.

    `shares`, one for each file or folder named, are the proportions of their conversations in the train split; `seed`
    draws which ones. A conversation that occurs in several files counts for the first. `progress` counts conversations.
    Raises `UserError` where a row is no conversation or has no assistant turn, and where there are too few to split.
    """
    lineage = Lineage("conversations", {"validation_fraction": validation_fraction})
    record_source(lineage, source)
    paths = () if isinstance(source, GeneratedSource) else source
    if shares:
        check_shares(shares, paths)
        lineage.config["shares"], lineage.seed = list(shares), seed
    fraction = validation_fraction
    with writing_artifact(path, lineage, overwrite) as folder:
        report, source_of = _write_splits(folder, source, fraction, shares, progress)
        while fraction and fraction < 0.5 and not report["splits"]["validation"]:
            fraction = min(0.5, 2 * fraction)
            report, source_of = _write_splits(folder, source, fraction, shares, None)  # counted above
        _check_filled(report, validation_fraction)
        if shares:
            report["mixture"] = _mix(folder / "train.jsonl", source_of, paths, shares, seed)
        write_json_atomic(folder / "report.json", report)
        lineage.result = report
    return Path(path)


def iter_conversations(path: str | Path, split: str) -> Iterator[Conversation]:
    """Stream one split (`train` or `validation`) of a conversations folder."""
    rows = split_path(path, "conversations", split, CONVERSATION_SPLITS)
    return read_conversations(rows) if rows.stat().st_size else iter(())


def _write_splits(
    folder: Path, source: Source[Conversation], fraction: float, shares: Sequence[float], progress: Bar | None
) -> tuple[JsonObject, np.ndarray]:
    """The report, and the index of the source of each line of the train split (n,)."""
    known, n_duplicates, skipped, source_of = DigestSet(), 0, RowReport(), array("I")
    counts = dict.fromkeys(CONVERSATION_SPLITS, 0)
    with writing_splits(folder, CONVERSATION_SPLITS) as outputs:
        for index, conversation in _indexed(source, skipped):
            if shares and not shares[index]:
                skipped.add("its source has share 0")
                continue
            digest = conversation.digest
            if not known.add(digest):
                n_duplicates += 1
                continue
            split = split_of(digest, fraction, 0.0)
            outputs[split].write(conversation.to_line())
            counts[split] += 1
            if split == "train":
                source_of.append(index)
            if progress:
                progress.advance(1)
    report = {"splits": counts, "duplicates": n_duplicates, "validation_fraction": fraction}
    return report | skipped.to_dict(), np.array(source_of, np.int64)


def _mix(
    path: Path, source_of: np.ndarray, sources: Sequence[str], shares: Sequence[float], seed: int
) -> list[JsonObject]:
    """Rewrite the train split as the mixture of `shares`; returns statistics of each source. Copies of a row are as far
    apart as the file allows.
    """
    n_rows = np.bincount(source_of, minlength=len(sources))
    for name, share, n in zip(sources, shares, n_rows, strict=True):
        if share and not n:
            raise UserError(
                f"shares: {share:g} for {name}, and the train split has none of its conversations",
                "they are duplicates of those before, or held out: give more of them, or remove the source",
            )
    parts = allocate(shares, len(source_of))
    times = repeats(source_of, parts, seed)
    mixed = path.with_suffix(".mixed")
    with open(mixed, "wb") as out:
        for again in range(int(times.max())):
            with open(path, "rb") as lines:
                out.writelines(line for line, n in zip(lines, times.tolist(), strict=True) if n > again)
    mixed.replace(path)
    return [
        {
            "source": Path(name).name,
            "share": share / sum(shares),
            "conversations": int(n),
            "taken": part,
            "skipped_rows": int((times[source_of == index] == 0).sum()),
        }
        for index, (name, share, n, part) in enumerate(zip(sources, shares, n_rows, parts, strict=True))
    ]


def _indexed(source: Source[Conversation], skipped: RowReport) -> Iterable[tuple[int, Conversation]]:
    """Every conversation with the index of its source."""
    if isinstance(source, GeneratedSource):
        return ((0, conversation) for conversation in source.generate())
    return _read(source, skipped)


def _read(paths: Sequence[str], report: RowReport) -> Iterator[tuple[int, Conversation]]:
    check_paths(paths)
    seen = DigestSet()
    for index, path in enumerate(paths):
        empty = True
        for file in input_files(path, TextConfig(), ReadReport(), seen):
            if not file.named and not _has_rows(file):
                continue
            for where, conversation in locate_conversations(file.path, report):
                empty = False
                if all(message.role != "assistant" for message in conversation.messages):
                    raise UserError(
                        f"{where}: has no assistant turn, so nothing can be learned",
                        "add the answer that the model should give, or remove the row",
                    )
                if reason := _why_uninformative(conversation):
                    report.add(reason, where)
                    continue
                yield index, conversation
        if empty:
            raise UserError(f"{path}: no conversations found", "give .jsonl files, one conversation a line")


def _has_rows(file: InputFile) -> bool:
    """Whether a file inside a folder is read: JSON lines, Parquet, or a `.json` that is an array."""
    if file.format != "json":
        return file.format in ("jsonl", "parquet")
    with open_text(file, TextConfig(), ReadReport()) as stream:
        return RowStream(stream).is_array


def _why_uninformative(conversation: Conversation) -> str | None:
    """Why a conversation is skipped; None where it is not."""
    if conversation.messages[-1].role != "assistant":
        return "it ends without an answer"
    counted = [message for message in conversation.messages if message.role == "assistant" and message.weight]
    if not counted:
        return "no answer counts (weight 0)"
    is_empty = any(not message.content.strip() and not message.tool_calls for message in counted)
    return "an answer is empty" if is_empty else None


def _check_filled(report: JsonObject, validation_fraction: float) -> None:
    n_train, n_validation = (report["splits"][split] for split in CONVERSATION_SPLITS)
    if n_train and (n_validation or not validation_fraction):
        return
    hint = "give more conversations, or set validation_fraction to 0 to train on all of them"
    skipped = "".join(f"; {line}" for line in skip_summary(report))
    raise UserError(
        f"{n_train + n_validation} different conversations cannot be split into train and validation{skipped}",
        hint,
    )
