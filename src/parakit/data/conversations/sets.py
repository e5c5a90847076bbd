"""A set of conversations for tuning: exact duplicates left out, split into train and validation, as an
artifact folder.

Split by each conversation's own digest, as documents are. A conversation cannot be cut finer, so where a
small set leaves validation empty the fraction is doubled until it is not, up to a half; the report says
which fraction was used. Only there can a conversation move when others are added.

Several files can be mixed in stated proportions (`shares`): of the train split then more or less of each stands there.
What is held out is held out once, whatever its share, but for a source of share 0, which is left out.

What was understood and has nothing to teach (it ends without an answer, an answer is empty, no answer counts) is left
out, counted and named. A conversation in which nobody answers at all is an error: it is no data for tuning.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from parakit.common.artifacts import Lineage, open_artifact, writing_artifact
from parakit.common.errors import UserError
from parakit.common.files import write_json_atomic
from parakit.common.progress import Bar
from parakit.data.config import PrimerConfig, TextConfig
from parakit.data.conversations.conversation import Conversation, enumerate_conversations, read_conversations
from parakit.data.deduplication import DigestSet
from parakit.data.mixing import allocate, check_shares, repeats
from parakit.data.read_report import ReadReport
from parakit.data.readers.inputs import check_paths, input_files
from parakit.data.skipped_rows import SkippedRows
from parakit.data.splits import split_of

CONVERSATION_SPLITS = ("train", "validation")


def prepare_conversations(
    source: Sequence[str] | PrimerConfig,
    path: str | Path,
    *,
    validation_fraction: float = 0.05,
    shares: Sequence[float] = (),
    seed: int = 0,
    overwrite: bool = False,
    progress: Bar | None = None,
) -> Path:
    """Read conversations from files (or folders of `.jsonl` and `.parquet`), or generate the primer's, into the artifact
    folder `path`. `shares`, one for each file or folder named, say in which proportions their conversations stand in the
    train split; `seed` draws which ones. A conversation that several have is the first one's.

    Raises `UserError` where a row is no conversation, where one has no assistant turn (nothing could be
    learned from it), and where there are too few to split. `progress` counts conversations.
    """
    lineage = Lineage("conversations", {"validation_fraction": validation_fraction})
    if isinstance(source, PrimerConfig):
        lineage.config["primer"], lineage.seed = source.model_dump(mode="json"), source.seed
    else:
        lineage.config["paths"] = list(source)
    if shares:
        check_shares(shares, () if isinstance(source, PrimerConfig) else source)
        lineage.config["shares"], lineage.seed = list(shares), seed
    fraction = validation_fraction
    with writing_artifact(path, lineage, overwrite) as folder:
        report, source_of = _write_splits(folder, source, fraction, shares, progress)
        while fraction and fraction < 0.5 and not report["splits"]["validation"]:
            fraction = min(0.5, 2 * fraction)
            report, source_of = _write_splits(folder, source, fraction, shares, progress)
        _check(report, validation_fraction)
        if shares and not isinstance(source, PrimerConfig):
            report["mixture"] = _mix(folder / "train.jsonl", source_of, source, shares, seed)
        write_json_atomic(folder / "report.json", report)
        lineage.result = report
    return Path(path)


def iter_conversations(path: str | Path, split: str) -> Iterator[Conversation]:
    """Stream one split (`train` or `validation`) of a conversations folder."""
    if split not in CONVERSATION_SPLITS:
        raise UserError(f"{split!r} is no split", f"splits are {', '.join(CONVERSATION_SPLITS)}")
    return read_conversations(open_artifact(path, "conversations").path / f"{split}.jsonl")


def _write_splits(
    folder: Path,
    source: Sequence[str] | PrimerConfig,
    fraction: float,
    shares: Sequence[float],
    progress: Bar | None,
) -> tuple[dict[str, Any], np.ndarray]:
    """The report, and the number of the source of each line of the train split (n,)."""
    known, n_duplicates, skipped, source_of = DigestSet(), 0, SkippedRows(), array("I")
    counts = dict.fromkeys(CONVERSATION_SPLITS, 0)
    with ExitStack() as stack:
        outputs = {
            split: stack.enter_context(open(folder / f"{split}.jsonl", "w", encoding="utf-8", newline="\n"))
            for split in CONVERSATION_SPLITS
        }
        for number, conversation in _source(source, skipped):
            if shares and not shares[number]:
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
                source_of.append(number)
            if progress:
                progress.advance(1)
    report = {"splits": counts, "duplicates": n_duplicates, "validation_fraction": fraction}
    if skipped.total:
        report |= {"skipped_rows": skipped.counts, "skipped_locations": skipped.places}
    return report, np.array(source_of, np.int64)


def _mix(
    path: Path, source_of: np.ndarray, sources: Sequence[str], shares: Sequence[float], seed: int
) -> list[dict[str, Any]]:
    """Write the train split anew as the mixture that `shares` ask for; returns a line of statistics for each source.
    Rows that stand there several times are as far apart as the file allows.
    """
    found = np.bincount(source_of, minlength=len(sources))
    for name, share, n in zip(sources, shares, found, strict=True):
        if share and not n:
            raise UserError(
                f"shares: {share:g} for {name}, and the train split has none of its conversations",
                "they are duplicates of those before, or held out: give more of them, or take the source out",
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
            "skipped_rows": int((times[source_of == number] == 0).sum()),
        }
        for number, (name, share, n, part) in enumerate(zip(sources, shares, found, parts, strict=True))
    ]


def _source(source: Sequence[str] | PrimerConfig, skipped: SkippedRows) -> Iterable[tuple[int, Conversation]]:
    """Every conversation with the number of its source."""
    if isinstance(source, PrimerConfig):
        from parakit import primer

        return ((0, conversation) for conversation in primer.generate_conversations(source))
    return _read(source, skipped)


def _read(paths: Sequence[str], skipped: SkippedRows) -> Iterator[tuple[int, Conversation]]:
    check_paths(paths)
    seen = DigestSet()
    for number, path in enumerate(paths):
        empty = True
        for file in input_files(path, TextConfig(), ReadReport(), seen):
            if file.kind not in ("jsonl", "parquet") and not file.named:
                continue
            for row, conversation in enumerate_conversations(file.path):
                empty = False
                if all(message.role != "assistant" for message in conversation.messages):
                    raise UserError(
                        f"{file.source}, row {row}: has no assistant turn, so nothing can be learned",
                        "add the answer that the model should give, or take the row out",
                    )
                if reason := _nothing_to_learn(conversation):
                    skipped.add(reason, f"{file.source}, row {row}")
                    continue
                yield number, conversation
        if empty:
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
