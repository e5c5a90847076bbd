"""What a corpus made by tasks will take: how many tasks of which size, time, memory and disk, from a sample of its files.

A few files, spread over all, are read and cleaned here; what they took is scaled by bytes. The estimate is for machines like
this one, and for files that are as these are.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from parakit.common.files import JsonObject
from parakit.common.hardware import peak_memory
from parakit.data.cleaning.chain import CleaningChain
from parakit.data.cleaning.corpus_steps import CorpusStep
from parakit.data.cleaning.step_config import StepConfig
from parakit.data.collected import write_row
from parakit.data.collecting import DocumentWriter, Texts
from parakit.data.config import TextConfig
from parakit.data.documents import Document
from parakit.data.duplicates.near_duplicates import NearDuplicatesConfig
from parakit.data.duplicates.signatures import SignatureWriter, n_bands
from parakit.data.duplicates.text_groups import SketchFile
from parakit.data.parallel import row_parts
from parakit.data.parallel.parallel_reading import all_files, file_size, part_starts
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_file
from parakit.data.readers.input_file import InputFile

SAMPLE_FILES, SAMPLE_BYTES = 16, 2**21
TEXT_BYTES = 500  # of memory of the first process for each text; its sketch lies in a file
ROW_OVERHEAD = 1.1  # of a row of JSON, by bytes of its text
SIGNATURE_BYTES = 1_000  # on disk, for each document
SKETCH_BYTES = 512  # on disk, for each text


def plan_corpus(config: TextConfig) -> JsonObject:
    """{"files", "bytes", "text_bytes", "texts", "tasks": {stage: number}, "largest_file_bytes", "sample_bytes", "seconds":
    {"tasks", "first_process"}, "memory_bytes": {"task", "first_process"}, "disk_bytes"}; seconds of tasks are divided by the
    workers. Nothing is written but temporary files.
    """
    files = all_files(config)
    sizes = [file_size(file) for file in files]
    with tempfile.TemporaryDirectory(prefix="parakit-plan-") as folder:
        sample = _read_sample(files, sizes, config)
        cleaning = _clean_sample(sample.documents, config, Path(folder))
    n_bytes = sum(sizes)
    text_bytes = int(n_bytes * sample.text_per_byte)
    scale = text_bytes / max(1, sample.n_bytes)
    n_texts = max(len(files), int(scale * sample.n_texts))
    parts = max(1, -(-int(text_bytes * ROW_OVERHEAD) // row_parts.PART_BYTES))
    near = any(isinstance(step, NearDuplicatesConfig) for step in config.cleaning)
    in_tasks = scale * (sample.seconds + cleaning["tasks"])
    longest = max(sizes, default=0) * sample.text_per_byte / max(1, sample.n_bytes) * sample.seconds
    peak = peak_memory()
    n_copies = 3 + len(config.cleaning)  # the parts as read and after each step, and the rows twice
    return {
        "files": len(files),
        "bytes": n_bytes,
        "text_bytes": text_bytes,
        "texts": n_texts,
        "tasks": {"read": len(part_starts(sizes)) - 1, "each step": parts},
        "largest_file_bytes": max(sizes, default=0),
        "sample_bytes": sample.n_bytes,
        "seconds": {
            "tasks": round(max(in_tasks / config.workers, longest)),
            "first_process": round(scale * cleaning["first_process"]),
        },
        "memory_bytes": {
            "task": peak + row_parts.PART_BYTES * 2,
            "first_process": peak + n_texts * (TEXT_BYTES + (40 if near else 0)),
        },
        "disk_bytes": int(text_bytes * ROW_OVERHEAD * n_copies)
        + n_texts * (SKETCH_BYTES + (SIGNATURE_BYTES if near else 0)),
    }


class _Sample:
    """Documents of a few files, how long reading them took, and the bytes of text for each byte of a file."""

    def __init__(self) -> None:
        self.documents: list[Document] = []
        self.n_bytes = self.n_texts = 0
        self.seconds, self.text_per_byte = 0.0, 1.0


def _read_sample(files: Sequence[InputFile], sizes: Sequence[int], config: TextConfig) -> _Sample:
    sample, report = _Sample(), ReadReport()
    step = max(1, len(files) // SAMPLE_FILES)
    share = SAMPLE_BYTES // min(SAMPLE_FILES, max(1, len(files)))
    text_bytes = file_bytes = 0
    start = time.perf_counter()
    for file, size in zip(files[::step], sizes[::step], strict=True):
        n_bytes, whole = 0, True
        for document in read_file(file, config, report):
            sample.documents.append(document)
            n_bytes += document.n_bytes
            if n_bytes >= share:
                whole = False
                break
        sample.n_bytes += n_bytes
        if whole:
            text_bytes, file_bytes = text_bytes + n_bytes, file_bytes + size
    sample.seconds = time.perf_counter() - start
    sample.n_texts = len({document.source for document in sample.documents})
    sample.text_per_byte = text_bytes / file_bytes if text_bytes else 1.0
    return sample


def _clean_sample(documents: Sequence[Document], config: TextConfig, folder: Path) -> dict[str, float]:
    """Seconds of what tasks do with the documents, and of what the first process does."""
    rows, seconds = folder / "rows", {"tasks": 0.0, "first_process": 0.0}
    with open(rows, "w", encoding="utf-8", newline="\n") as file:
        for number, document in enumerate(documents):
            write_row(file, number, document)
    for number, step in enumerate(config.cleaning):
        start = time.perf_counter()
        by_tasks = _takes_tasks(step, folder / f"{number}-build")
        if isinstance(step, NearDuplicatesConfig):
            signatures = folder / f"{number}-signatures"
            signatures.mkdir()
            writer = SignatureWriter(signatures, n_bands(step.similarity))
            for document in documents:
                writer.add(document.text)
            writer.close()
        else:
            CleaningChain([step], folder / f"{number}").run(rows)
        seconds["tasks" if by_tasks else "first_process"] += time.perf_counter() - start
    start = time.perf_counter()
    texts = Texts(sketches=SketchFile(folder))
    with open(folder / "again", "w", encoding="utf-8", newline="\n") as file:
        writing = DocumentWriter(file, texts, config.deduplicate)
        for document in documents:
            writing.add(document, document.source, held_out=False)
    texts.find_groups()
    seconds["first_process"] += time.perf_counter() - start
    return seconds


def _takes_tasks(step: StepConfig, folder: Path) -> bool:
    folder.mkdir()
    return isinstance(step, NearDuplicatesConfig) or not isinstance(step.build(folder), CorpusStep)
