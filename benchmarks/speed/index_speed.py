"""Indexing and searching documents: text a second for words, passages a second for vectors against transformers' own batches,
the memory and the milliseconds of 100,000 passages. Seconds are those of the processor, on one core.

Words: books of Project Gutenberg, as often as needed. Vectors: passages of the same books by all-MiniLM-L6-v2, next to
`transformers` with padded batches of the same size, in turns. The large index has made-up vectors, so that its size and not
the encoder is measured.
"""

from __future__ import annotations

import gzip
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import DATA, interleaved, run_process, work_folder
from benchmarks.registry import NO_TARGET, Figures, benchmark

WIDTH = 384  # of the made-up vectors, as MiniLM's
QUESTIONS = (
    "the whale and the captain",
    "a letter from my sister",
    "the trial in Paris",
    "a house by the sea",
)


@benchmark("index_speed", {
    "words.megabytes_per_second": (">= 1", "indexing for words: MB of text a second"),
    "vectors.share_of_transformers": (">= 0.95", "vectors: passages a second as a share of transformers' batches"),
    "large.peak_memory_mib": ("<= 2048", "an index of 100,000 passages with vectors: peak memory, MiB"),
    "large.query_ms": ("<= 50", "a question to it: milliseconds"),
    "large.seconds": (NO_TARGET, "making it: seconds"),
})  # fmt: skip
def index_speed(
    *,
    model: Path | None = None,
    data: Path = DATA,
    work: Path | None = None,
    megabytes: float = 20.0,
    passages: int = 100_000,
    encoded: int = 256,
    repeats: int = 3,
) -> Figures:
    """`model` None: the one that `make real-models` fetched; `encoded`: passages of each round of vectors."""
    from tests.real_models import find_model

    source = model or find_model("minilm")
    with work_folder(work) as folder:
        words = _in_process("words", folder, data, megabytes)
        large = _in_process("large", folder, data, passages)
        figures: Figures = {"words": words, "large": large}
        if source is not None:
            figures["vectors"] = _vectors(source, list(_passages(data, encoded)), repeats)
    return figures


def _in_process(part: str, folder: Path, data: Path, size: float) -> Figures:
    run = run_process(
        [sys.executable, "-m", "benchmarks.speed.index_speed", part, str(folder), str(data), str(size)],
        timeout=7200,
    )
    return run.figures | {"peak_memory_mib": round(run.peak_memory_mib)}


def _books(data: Path) -> Iterator[str]:
    while True:
        for path in sorted((data / "gutenberg").glob("*.txt.gz")):
            with gzip.open(path, "rt", encoding="utf-8") as file:
                yield file.read()


def _passages(data: Path, n: int) -> Iterator[str]:
    from parakit.assistants.retrieval.passages import split_passages

    for book in _books(data):
        for one in split_passages(book, 800, 120):
            if n == 0:
                return
            yield one.text
            n -= 1


def _write_books(folder: Path, data: Path, n_bytes: int) -> int:
    folder.mkdir()
    total = 0
    for number, book in enumerate(_books(data)):
        (folder / f"{number}.txt").write_text(f"{book}\n{number}\n", encoding="utf-8")
        total += len(book.encode())
        if total >= n_bytes:
            return total
    raise AssertionError("books are endless")


def measure_words(folder: Path, data: Path, megabytes: float) -> Figures:
    """Index books for words."""
    from parakit.assistants.retrieval.config import IndexConfig
    from parakit.assistants.retrieval.indexing import index_documents

    n_bytes = _write_books(folder / "books", data, int(megabytes * 1e6))
    started = time.process_time()
    config = IndexConfig(paths=(str(folder / "books"),), encoder="none")
    report = index_documents(config, folder / "words")
    seconds = time.process_time() - started
    return {
        "megabytes_per_second": round(n_bytes / 1e6 / seconds, 2),
        "passages": report["n_passages"],
        "seconds": round(seconds, 1),
    }


def measure_large(folder: Path, data: Path, passages: float) -> Figures:
    """Index, with made-up vectors, files that have so many passages together, and search them."""
    from parakit.assistants.retrieval import encoders, indexing, search
    from parakit.assistants.retrieval.config import IndexConfig

    class MadeUp(encoders.PassageEncoder):
        """Vectors that are a function of the text's length and nothing else that means anything."""

        width = WIDTH

        @classmethod
        def load(cls, folder: Path, device: str = "auto") -> MadeUp:
            return cls(None, encoders.encoder_digest(folder))  # type: ignore[arg-type]

        def documents(self, texts: Sequence[str]) -> np.ndarray:
            found = np.random.default_rng(len(texts[0])).standard_normal((len(texts), WIDTH), np.float32)
            return found / np.linalg.norm(found, axis=1, keepdims=True)

        def query(self, text: str) -> np.ndarray:
            return self.documents([text])[0]

    indexing.PassageEncoder = search.PassageEncoder = MadeUp  # type: ignore[misc]
    encoder = folder / "encoder"
    encoder.mkdir()
    (encoder / "config.json").write_text("{}", encoding="utf-8")
    books = folder / "many"
    books.mkdir()
    found = list(_passages(data, int(passages)))
    for start in range(0, len(found), 500):
        text = "\n\n".join(f"# {start + i}\n\n{one}" for i, one in enumerate(found[start : start + 500]))
        (books / f"{start}.md").write_text(text, encoding="utf-8")
    del found
    started = time.process_time()
    config = IndexConfig(paths=(str(books),), encoder=str(encoder), passage_chars=1000)
    report = indexing.index_documents(config, folder / "large")
    seconds = time.process_time() - started
    index = search.DocumentIndex(folder / "large")
    times = []
    for question in QUESTIONS * 5:
        started = time.process_time()
        index.search(question)
        times.append(time.process_time() - started)
    return {
        "passages": report["n_passages"],
        "seconds": round(seconds, 1),
        "query_ms": round(statistics.median(times) * 1e3, 1),
    }


def _vectors(source: Path, texts: Sequence[str], repeats: int) -> Figures:
    """Passages a second of both sides, in turns: batches of 32, longest first."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    from parakit.assistants.retrieval.encoders import PassageEncoder

    own = PassageEncoder.load(source, "cpu")
    tokenizer, model = AutoTokenizer.from_pretrained(source), AutoModel.from_pretrained(source).eval()
    ordered = sorted(texts, key=len, reverse=True)

    def parakit_side() -> dict[str, float]:
        started = time.process_time()
        own.documents(ordered)
        return {"per_second": len(texts) / (time.process_time() - started)}

    def transformers_side() -> dict[str, float]:
        started = time.process_time()
        with torch.inference_mode():
            for first in range(0, len(ordered), 32):
                batch = tokenizer(
                    ordered[first : first + 32],
                    padding=True,
                    truncation=True,
                    max_length=256,
                    return_tensors="pt",
                )
                model(**batch)
        return {"per_second": len(texts) / (time.process_time() - started)}

    found = interleaved({"parakit": parakit_side, "transformers": transformers_side}, repeats)
    medians = {name: side["per_second"]["median"] for name, side in found.items()}
    return {**found, "share_of_transformers": round(medians["parakit"] / medians["transformers"], 3)}


if __name__ == "__main__":
    part, work, data, size = sys.argv[1:]
    measure = {"words": measure_words, "large": measure_large}[part]
    print(json.dumps(measure(Path(work), Path(data), float(size))))
