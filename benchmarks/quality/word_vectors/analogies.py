"""Analogies with word vectors that Parakit makes of 28 books, against gensim's word2vec on the same words.

Both sides read the same tokens: the words of Project Gutenberg's books in lower case, as Parakit's word tokenizer splits
them. Parakit's are the vectors of co-occurrence counts with which `--embedding-init cooccurrence` starts a model, and the
input embedding of a small decoder that predicts the next word. Accuracy is that of 3CosAdd over the words that all sides
have, on the questions of questions-words.txt whose four words are among them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.harness import DATA, run_parakit, run_process, work_folder
from benchmarks.registry import NO_TARGET, Figures, benchmark
from benchmarks.speed.peers.peers import python_of
from parakit.inference.prediction.analogies import read_analogies
from parakit.inspection.vectors.word_vectors import WordVectors, total

SIDE = Path(__file__).with_name("gensim_side.py")
WORDS_PER_LINE = 1_000  # gensim cuts a text at 10,000
SEMANTIC = 5  # the first categories of the file; the others are about forms of words


@benchmark("word_vectors", {
    "counts.against_skip_gram": (">= 0", "analogies: Parakit's counted vectors minus gensim's skip-gram"),
    "*.accuracy": (NO_TARGET, "analogies: {0}"),
    "*.seconds": (NO_TARGET, "seconds: {0}"),
    "questions": (NO_TARGET, "analogies whose words all sides have"),
})  # fmt: skip
def word_vectors(
    *,
    data: Path = DATA,
    vocab_size: int = 20_000,
    d_vector: int = 300,
    epochs: int = 5,
    minutes: float = 6,
    work: Path | None = None,
) -> Figures:
    """`data` holds gutenberg and word_analogy; `minutes` is what the decoder trains for."""
    with work_folder(work) as folder:
        shards, tokenizer = _prepare(data, folder, vocab_size)
        sides = {"counts": _counted(shards, tokenizer, vocab_size, d_vector)}
        sides["decoder"] = _trained(shards, tokenizer, folder, minutes)
        text = _words_of(shards, tokenizer, folder)
        for name, skip_gram in (("skip_gram", 1), ("cbow", 0)):
            sides[name] = _gensim(text, folder / f"{name}.npz", d_vector, epochs, skip_gram)
        return _compared(sides, data / "word_analogy" / "questions-words.txt.gz")


def _prepare(data: Path, folder: Path, vocab_size: int) -> tuple[Path, Path]:
    """Shards of the books' words, and their tokenizer."""
    corpus, tokenizer, shards = (folder / name for name in ("corpus", "tokenizer", "shards"))
    if not corpus.exists():
        run_parakit("text", data / "gutenberg", "--exclude", "SOURCE.txt", "--output", corpus)
    if not tokenizer.exists():
        options = f"--kind word --lowercase --vocab-size {vocab_size} --output".split()
        run_parakit("tokenizer", "train", corpus, *options, tokenizer)
    if not shards.exists():
        run_parakit("tokenizer", "encode", tokenizer, corpus, "--output", shards)
    return shards, tokenizer


def _counted(shards: Path, tokenizer: Path, vocab_size: int, d_vector: int) -> tuple[WordVectors, float]:
    """Vectors of co-occurrence counts, and the seconds that they take."""
    from parakit.inspection.vectors.word_vectors import word_rows
    from parakit.tokens import Tokenizer
    from parakit.tokens.shards import TokenShards
    from parakit.training.initialization import cooccurrence_vectors

    loaded = Tokenizer.load(tokenizer)
    rows = word_rows(loaded)
    started = time.perf_counter()
    train = TokenShards.open(shards, "train")
    ignored = [i for i in range(loaded.vocab_size) if i not in set(rows.values())]
    vectors = cooccurrence_vectors(train, loaded.vocab_size, d_vector, ignored).numpy()
    return WordVectors(tuple(rows), vectors[list(rows.values())]), time.perf_counter() - started


def _trained(shards: Path, tokenizer: Path, folder: Path, minutes: float) -> tuple[WordVectors, float]:
    """The input embedding of a decoder that was trained for `minutes`, and the seconds of its training."""
    import parakit
    from parakit.inspection.vectors.word_vectors import word_vectors as vectors_of

    out = folder / "decoder"
    if not out.exists():
        options = f"--time {minutes:g}min --max-seq-len 64 --output".split()
        run_parakit("pretrain", shards, "--tokenizer", tokenizer, *options, out)
    lineage = json.loads((out / "lineage.json").read_text(encoding="utf-8"))
    return vectors_of(parakit.load(out)), float(lineage["result"]["training_seconds"])


def _words_of(shards: Path, tokenizer: Path, folder: Path) -> Path:
    """The words of the training split, as both of Parakit's sides read them, without what is no word."""
    from parakit.inspection.vectors.word_vectors import word_rows
    from parakit.tokens import Tokenizer
    from parakit.tokens.shards import TokenShards

    path, train = folder / "words.txt", TokenShards.open(shards, "train")
    names = {row: word for word, row in word_rows(Tokenizer.load(tokenizer)).items()}
    with path.open("w", encoding="utf-8") as file:
        for start, end in zip(train.offsets[:-1], train.offsets[1:], strict=True):
            words = [names[i] for i in train.token_ids[start:end].tolist() if i in names]
            for first in range(0, len(words), WORDS_PER_LINE):
                file.write(" ".join(words[first : first + WORDS_PER_LINE]) + "\n")
    return path


def _gensim(text: Path, out: Path, d_vector: int, epochs: int, skip_gram: int) -> tuple[WordVectors, float]:
    """gensim's vectors, and the seconds that it takes."""
    numbers = map(str, (d_vector, 5, epochs, skip_gram, 0))
    run = run_process([python_of("gensim"), SIDE, text, out, *numbers])
    with np.load(out) as found:
        return WordVectors(tuple(found["words"].tolist()), found["vectors"]), run.figures["seconds"]


def _compared(sides: Mapping[str, tuple[WordVectors, float]], file: Path) -> Figures:
    """The accuracies of all sides over the words that all of them have."""
    shared = set.intersection(*(set(vectors.words) for vectors, _ in sides.values()))
    first = sides["skip_gram"][0]
    words = tuple(word for word in first.words if word in shared)
    questions = read_analogies(file)
    figures: Figures = {"words": len(words)}
    for name, (vectors, seconds) in sides.items():
        common = WordVectors(words, vectors.vectors[[vectors.rows[word] for word in words]])
        scores = common.analogy_scores(questions)
        whole, figures["questions"] = total(scores), total(scores).n
        figures[name] = {
            "accuracy": whole.accuracy,
            "semantic": total(scores[:SEMANTIC]).accuracy,
            "syntactic": total(scores[SEMANTIC:]).accuracy,
            "seconds": seconds,
        }
        print(name, figures[name], file=sys.stderr, flush=True)
    figures["counts"]["against_skip_gram"] = figures["counts"]["accuracy"] - figures["skip_gram"]["accuracy"]
    return figures
