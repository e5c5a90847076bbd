"""Does pre-training help? SST-2 and CoLA with an encoder pre-trained on books, the same encoder without, and words alone.

An encoder learns masked tokens on Project Gutenberg books (`parakit build`), then each task (`parakit finetune --task
classify`), with several seeds; the same shape and tokenizer with fresh weights does the same; a logistic regression
over words and word pairs has neither order nor pre-training. Both starts choose among the same settings on the validation
split. SST-2: accuracy on the test split, with all labels and with 500. CoLA: Matthews correlation on the in-domain and
the out-of-domain development sets.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.harness import DATA, run_parakit, summary, work_folder
from benchmarks.quality.encoder_tasks.bag_of_words import bag_of_words
from benchmarks.quality.encoder_tasks.data import Labels, write_tasks
from benchmarks.quality.encoder_tasks.tuning import Start, tuned
from benchmarks.registry import NO_TARGET, Figures, benchmark

# Words, not pieces, carry what the tasks ask for, and SST-2 is in small letters; a sentence has some 25 tokens.
PRETRAINING = (
    "max_seq_len=128 tokenizer.kind=wordpiece tokenizer.lowercase=true tokenizer.vocab_size=8192"
    " pretrain.whole_word=true"
    # Neighbours are counted first; at the default rate that start would be gone in ten steps (docs/log.md).
    " pretrain.embedding_init=cooccurrence pretrain.embedding_learning_rate=0.001"
)
# Learning rates to choose from, and passes over the labels.
RATES = (0.0005, 0.001, 0.002, 0.004)
GRID = {"sst2": (RATES, 3), "sst2_500": (RATES, 8), "cola": (RATES, 3)}
TUNING = "--optimizer adamw --learning-rate {rate} --dropout 0.3 --epochs {epochs} --validate-every 10000"


@benchmark("encoder_tasks", {
    "*.gain": ("> 0", "{0}: gain of pre-training over fresh weights"),
    "*.pretrained": (NO_TARGET, "{0}: pre-trained encoder"),
    "*.fresh": (NO_TARGET, "{0}: the same encoder with fresh weights"),
    "*.bag_of_words": (NO_TARGET, "{0}: bag of words"),
})  # fmt: skip
def encoder_tasks(
    *,
    data: Path = DATA,
    size: str = "2m",
    epochs: float = 1,
    seeds: int = 3,
    encoder: Path | None = None,
    work: Path | None = None,
) -> Figures:
    """`epochs` of pre-training over the books; `encoder` is a pre-trained folder to use instead; `work` keeps all folders."""
    with work_folder(work) as folder:
        encoder = encoder or _pretrain(data, size, epochs, folder)
        starts = [Start("pretrained", encoder), Start("fresh", _fresh(encoder, folder / "fresh"))]
        figures: Figures = {"seeds": seeds, "pretraining": _pretraining(encoder)}
        for labels in write_tasks(data, folder):
            figures[labels.name] = _compared(starts, labels, seeds, folder)
            print(labels.name, figures[labels.name], file=sys.stderr, flush=True)
    return figures


def _compared(starts: list[Start], labels: Labels, n_seeds: int, work: Path) -> Figures:
    """Both starts, words alone, and what pre-training gained seed by seed."""
    rates, epochs = GRID[labels.name]
    grid = tuple(TUNING.format(rate=rate, epochs=epochs) for rate in rates)
    found = {start.name: tuned(start, labels, grid, n_seeds, work) for start in starts}
    main_set = labels.task.measured[0]
    pairs = zip(*(found[name].figures[main_set] for name in ("pretrained", "fresh")), strict=True)
    return {
        **{name: one.summary(labels) for name, one in found.items()},
        "bag_of_words": bag_of_words(labels),
        "gain": summary([with_it - without for with_it, without in pairs]),
    }


def _pretraining(encoder: Path) -> Figures:
    """How the encoder was pre-trained, from its lineage."""
    from parakit.common.artifacts import open_artifact

    found = open_artifact(encoder, "model").lineage["result"]
    names = ("parameters", "tokens", "loss", "loss_unit", "seconds", "tokens_per_second", "compiled")
    return {name: found[name] for name in names}


def _pretrain(data: Path, size: str, epochs: float, work: Path) -> Path:
    """An encoder trained on the books."""
    options = f"--family encoder --size {size} --exclude SOURCE.txt --json"
    settings = f"{PRETRAINING} pretrain.epochs={epochs}"
    text: list[str | Path] = ["--builds", work, "--text", data / "gutenberg"]
    run_parakit("build", *options.split(), *text, "--set", *settings.split(), timeout=7200)
    return next(path.parent for path in work.glob("*/pretrain/config.json"))


def _fresh(encoder: Path, path: Path) -> Path:
    """The same shape and tokenizer, with weights that have learned nothing."""
    from parakit.checkpoints import load_model, save_model
    from parakit.common.artifacts import Lineage
    from parakit.common.seeds import seed_everything

    model, tokenizer = load_model(encoder)
    seed_everything(0)
    model.reset()
    return save_model(model, tokenizer, path, Lineage("model", {"stage": "fresh"}, seed=0), overwrite=True)
