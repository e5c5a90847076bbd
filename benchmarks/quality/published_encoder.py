"""A published sentence encoder (all-MiniLM-L6-v2) tuned on a few labels with default settings.

SST-2: accuracy on the test split after 30 steps on 300 labels, and after the default epochs on 1,000, drawn anew for
every seed. Beside it a logistic regression over the encoder's frozen vectors (a linear probe) and one over words and word
pairs, on the same labels.
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.harness import DATA, run_parakit, summary, work_folder
from benchmarks.quality.encoder_tasks.bag_of_words import bag_of_words
from benchmarks.quality.encoder_tasks.data import TASKS, Labels, read_file, write_tasks
from benchmarks.registry import NO_TARGET, Figures, benchmark

SETTINGS = {300: "--max-steps 30", 1000: ""}
PROBE_STRENGTHS = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # of scikit-learn's C
Vectors = Callable[[Path], tuple[np.ndarray, list[str]]]


@benchmark("published_encoder", {
    "sst2_300.gain": (">= 0.04", "MiniLM, 300 labels of SST-2, 30 steps: gain over a linear probe"),
    "sst2_1000.tuned.median": (">= 0.85", "MiniLM, 1,000 labels of SST-2: accuracy"),
    "*.probe.median": (NO_TARGET, "{0}: linear probe on the frozen vectors"),
    "*.bag_of_words.median": (NO_TARGET, "{0}: bag of words"),
})  # fmt: skip
def published_encoder(
    *, model: Path | None = None, data: Path = DATA, seeds: int = 5, work: Path | None = None
) -> Figures:
    """`model` None: the one that `make real-models` fetched."""
    from tests.real_models import find_model

    source = model or find_model("minilm")
    if source is None:
        raise SystemExit("published_encoder: no model; `make real-models` fetches it")
    with work_folder(work) as folder:
        encoder = folder / "encoder"
        if not encoder.exists():
            run_parakit("import", source, "--output", encoder)
        write_tasks(data, folder)
        vectors = _vectors(encoder)
        return {f"sst2_{n}": _compared(encoder, vectors, folder, n, seeds) for n in SETTINGS}


def _compared(encoder: Path, vectors: Vectors, folder: Path, n: int, seeds: int) -> Figures:
    """Accuracies of the three on `n` labels, over seeds, and the gain of tuning over the probe."""
    runs = []
    for seed in range(seeds):
        labels = _draw(folder, n, seed)
        run = {
            "tuned": _tuned(encoder, labels, seed, SETTINGS[n]),
            "probe": _probe(vectors, labels),
            "bag_of_words": bag_of_words(labels),
        }
        print(f"sst2_{n}", seed, run, file=sys.stderr, flush=True)
        runs.append(run)
    figures: Figures = {name: summary([run[name] for run in runs]) for name in runs[0]}
    return figures | {"gain": statistics.mean(run["tuned"] - run["probe"] for run in runs)}


def _draw(folder: Path, n: int, seed: int) -> Labels:
    """`n` labels drawn with `seed`, in a folder with the other splits."""
    place = folder / f"drawn-{n}-{seed}"
    place.mkdir(exist_ok=True)
    for split in ("validation", "test"):
        (place / f"sst2.{split}.jsonl").write_bytes((folder / f"sst2.{split}.jsonl").read_bytes())
    labels = Labels(TASKS[0], place, n)
    lines = (folder / "sst2.train.jsonl").read_text(encoding="utf-8").splitlines()
    labels.train.write_text("\n".join(random.Random(seed).sample(lines, n)) + "\n", encoding="utf-8")
    return labels


def _tuned(encoder: Path, labels: Labels, seed: int, settings: str) -> float:
    """Accuracy after `parakit finetune` with default settings."""
    from parakit.checkpoints import load_model
    from parakit.data.examples import read_examples
    from parakit.evaluation.examples import evaluate_examples

    out = labels.folder / "tuned"
    options = f"--task classify --seed {seed} --overwrite --json {settings}".split()
    run_parakit("finetune", encoder, *options, "--output", out, "--examples", labels.train)
    model, tokenizer = load_model(out)
    assert tokenizer is not None
    rows = [row for _, row in read_examples(labels.file("test"), "classify")]
    return evaluate_examples(model, tokenizer, "classify", rows).value("accuracy")


def _probe(vectors: Vectors, labels: Labels) -> float:
    """Accuracy of a logistic regression over the encoder's vectors; its strength is chosen by cross-validation on the
    training labels, the only ones that tuning sees.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    search = GridSearchCV(LogisticRegression(max_iter=2000), {"C": list(PROBE_STRENGTHS)}, cv=5)
    search.fit(*vectors(labels.train))
    return float(search.score(*vectors(labels.file("test"))))


def _vectors(encoder: Path) -> Vectors:
    """A file's vectors and labels; a file of the same content is read once."""
    import parakit

    model = parakit.load(encoder)
    known: dict[bytes, tuple[np.ndarray, list[str]]] = {}

    def vectors(path: Path) -> tuple[np.ndarray, list[str]]:
        content = path.read_bytes()
        if content not in known:
            texts, wanted = read_file(path)
            known[content] = model.embed(texts), wanted
        return known[content]

    return vectors
