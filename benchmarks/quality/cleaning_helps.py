"""Whether cleaning helps: models of equal size and time on a dirty and on a clean folder, with and without each step.

The texts are those of `dirty_mixture`. All models have one tokenizer, trained on the dirty folder as it was read, and one
number of training steps. The figure is bits per byte of held-out text that nothing was done to. Every row has the same
seeds, for the first weights and the order of the rows, so that differences are paired. The intervals are those of a
randomized block design, whose blocks are the seeds: the noise is what is left of a folder's runs without the means of rows
and seeds. A row that leaves a folder as it was has a difference of exactly 0, and no runs of its own.
"""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.harness import DATA, ROOT, kept_or_measured, work_folder
from benchmarks.quality.dirty_mixture import Texts, make_texts, write_texts
from benchmarks.registry import NO_TARGET, Figures, benchmark
from benchmarks.results_page import put_between_markers
from parakit.common.errors import UserError
from parakit.common.files import write_text_atomic
from parakit.common.progress import log
from parakit.data.corpus import iter_corpus
from parakit.data.documents import Document
from parakit.stages.config import PretrainConfig
from parakit.stages.data import make_corpus, make_tokenizer
from parakit.stages.data_config import CorpusConfig
from parakit.stages.plans import ModelSpec
from parakit.stages.pretraining import PretrainJob
from parakit.tokens.config import TokenizerConfig
from parakit.tokens.shards import write_shards
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.trainer import Trainer

PAGE = ROOT / "docs" / "cleaning.md"
VOCAB_SIZE, SEQ_LEN = 2048, 128
EXACT, DEFAULTS, NOTHING, CEILING = "exact_duplicates", "defaults", "nothing", "clean_text_alone"
CLASSIFIER = "quality_classifier:good={folder}/good.jsonl:bad={folder}/bad.jsonl"
STEPS: dict[str, Any] = {
    "repair_text": "repair_text",
    "repeated_lines": "repeated_lines",
    "language": "language",
    "gopher_rules": {"step": "quality", "rules": ["gopher", "gopher_repetition"]},
    "fineweb_rules": {"step": "quality", "rules": ["fineweb"]},
    "c4_rules": {"step": "quality", "rules": ["c4"]},
    EXACT: None,  # `deduplicate`
    "near_duplicates": "near_duplicates",
    "repeated_passages": "repeated_passages",
    "quality_classifier": CLASSIFIER,
    "personal_data": "personal_data",
}
OF_WEB_PAGES = ("fineweb_rules", "c4_rules")  # they judge lines, which hard-wrapped text has others of
ALL = tuple(name for name in STEPS if name not in OF_WEB_PAGES)
LEFT_OUT = ("repeated_lines", "gopher_rules", "near_duplicates")
SINGLE: dict[str, tuple[str, ...]] = {NOTHING: (), DEFAULTS: (), "all": ALL} | {
    name: (name,) for name in STEPS
}
ROWS = {
    "dirty": SINGLE | {f"all_without_{name}": tuple(one for one in ALL if one != name) for name in LEFT_OUT},
    "clean": SINGLE,
}


@benchmark("cleaning_helps", {
    "dirty.nothing.bits_per_byte": (NO_TARGET, "dirty folder, nothing cleaned: bits per byte of clean held-out text"),
    "dirty.*.gain": (NO_TARGET, "dirty folder, {0}: gain in bits per byte over nothing cleaned"),
    "dirty.defaults.gain_low": ("> 0", "dirty folder, default settings: gain, lower end of the 95 % interval"),
    "clean.nothing.bits_per_byte": (NO_TARGET, "clean folder, nothing cleaned: bits per byte"),
    "clean.*.gain": (NO_TARGET, "clean folder, {0}: gain in bits per byte"),
    "clean.defaults.gain_high": (">= 0", "clean folder, default settings: gain, upper end of the 95 % interval"),
})  # fmt: skip
def cleaning_helps(
    *,
    data: Path = DATA,
    seeds: int = 3,
    steps: int = 150,
    batch_tokens: int = 1024,
    size: str = "600k",
    work: Path | None = None,
) -> Figures:
    """Models of about `size` parameters train for `steps` steps. `work` keeps finished runs and cleaned corpora: delete it
    when a cleaning step or `dirty_mixture` was changed.
    """
    import torch

    if seeds < 2:
        raise UserError(f"seeds is {seeds}, and the noise is measured between seeds", "take 2 or more")
    torch.set_num_threads(1)
    with work_folder(work) as folder:
        texts = make_texts(data)
        write_texts(texts, folder)
        runs = _Runs(folder, texts, {"max_steps": steps, "batch_tokens": batch_tokens}, size)
        rows = [(where, row) for row in ROWS["dirty"] for where in ROWS if row in ROWS[where]]
        for where, row in rows:
            log(f"{where}, {row}: {runs.text(where, row).n_bytes:,} bytes")
        found: dict[str, dict[str, list[float]]] = {where: {} for where in ROWS}
        for seed in range(seeds):
            for where, row in rows:
                found[where].setdefault(row, []).append(runs.bits_per_byte(where, row, seed))
    figures: Figures = {
        "shares_of_the_dirty_folder": texts.shares,
        "tokens": steps * batch_tokens,
    } | runs.model
    found["dirty"][CEILING] = found["clean"][NOTHING]
    for where, results in found.items():
        texts_of = {row: runs.text(where, row) for row in results if row != CEILING}
        digests = {row: text.digest for row, text in texts_of.items()}
        figures[where] = gains(results, digests | {CEILING: CEILING})
        for row, text in texts_of.items():
            figures[where][row] |= {"documents": text.n_documents, "bytes": text.n_bytes}
    write_text_atomic(PAGE, put_between_markers(PAGE.read_text(encoding="utf-8"), table(figures)))
    return figures


def table(figures: Figures) -> str:
    """The table of docs/cleaning.md: of each row the text that is left of both folders, and the gains."""
    lines = [
        "| cleaning | dirty folder, text left | gain | clean folder, text left | gain |",
        f"|{' --- |' * 5}",
    ]
    for row in figures["dirty"]:
        cells = [row.replace("_", " ")]
        if row == NOTHING:
            for where in ROWS:
                cells += ["100%", f"{figures[where][row]['bits_per_byte']:.3f} bits per byte"]
            lines.append(f"| {' | '.join(cells)} |")
            continue
        for where in ROWS:
            one, whole = figures[where].get(row), figures[where][NOTHING]
            if one is None or "bytes" not in one:
                cells += ["", "" if one is None else _gain(one)]
            else:
                cells += [f"{one['bytes'] / whole['bytes']:.0%}", _gain(one)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _gain(one: Figures) -> str:
    if one["gain_low"] == one["gain_high"] == 0:
        return "0: the same text"
    return f"{one['gain']:+.3f} ({one['gain_low']:+.3f} to {one['gain_high']:+.3f})"


@dataclass(frozen=True)
class _Text:
    """A cleaned corpus as token shards, its training text's digest and size."""

    shards: Path
    digest: str
    n_documents: int
    n_bytes: int


@dataclass
class _Runs:
    """Cleans the folders and trains on what is left, each text once."""

    folder: Path
    texts: Texts
    length: Mapping[str, int]
    size: str
    model: Figures = field(default_factory=dict)
    _texts: dict[tuple[str, str], _Text] = field(default_factory=dict)

    @property
    def tokenizer(self) -> Path:
        path = self.folder / "tokenizer"
        if not path.exists():
            make_tokenizer(self._corpus("dirty", NOTHING), TokenizerConfig(vocab_size=VOCAB_SIZE), path)
        return path

    def _corpus(self, where: str, row: str) -> Path:
        path = self.folder / "corpora" / f"{where}-{row}"
        if not path.exists():
            make_corpus(settings(ROWS[where][row], row == DEFAULTS, self.folder, self.folder / where), path)
        return path

    def text(self, where: str, row: str) -> _Text:
        """What a row trains on."""
        if (where, row) not in self._texts:
            documents = list(iter_corpus(self._corpus(where, row), "train"))
            digest = hashlib.sha256("".join(one.digest for one in documents).encode()).hexdigest()[:16]
            shards = self.folder / "shards" / digest
            if not shards.exists():
                tokenizer = Tokenizer.load(self.tokenizer)
                held_out = [Document(text, "", len(text.encode())) for text in self.texts.held_out]
                write_shards({"train": documents, "validation": held_out}, tokenizer, shards)
            n_bytes = sum(one.n_bytes for one in documents)
            self._texts[where, row] = _Text(shards, digest, len(documents), n_bytes)
        return self._texts[where, row]

    def bits_per_byte(self, where: str, row: str, seed: int) -> float:
        """Of the held-out text, after training on the row's text."""
        text = self.text(where, row)
        length = "-".join(map(str, self.length.values()))
        kept = self.folder / "runs" / f"{text.digest}-{self.size}-{length}-{seed}.json"
        run = kept_or_measured(kept, lambda: self._trained(text.shards, seed))
        self.model = {name: run[name] for name in ("parameters", "held_out_bytes")}
        log(f"{where}, {row}, seed {seed}: {run['bits_per_byte']:.4f}")
        return float(run["bits_per_byte"])

    def _trained(self, shards: Path, seed: int) -> Figures:
        training = PretrainConfig.parse(
            {"seed": seed, "compile": "off", "device": "cpu", "precision": "float32", **self.length}
        )
        spec = ModelSpec(size=self.size, max_seq_len=SEQ_LEN)
        with TemporaryDirectory() as work:
            job = PretrainJob(shards, self.tokenizer, Path(work), training, spec)
            setup = job.prepare(Path(work)).setup
        trainer = Trainer(setup.model, setup.task.source, setup.task.objective, setup.plan, folder=None)
        for _ in trainer.steps():
            pass
        found = setup.task.validate(setup.model)
        return {
            "bits_per_byte": found["bits_per_byte"],
            "parameters": setup.model.config.n_params()["total"],
            "held_out_bytes": sum(len(text.encode()) for text in self.texts.held_out),
        }


def settings(steps: Sequence[str], are_defaults: bool, folder: Path, source: Path) -> CorpusConfig:
    """A corpus of `source` without splits: with these steps alone, or the defaults."""
    values: dict[str, Any] = {"paths": [str(source)], "validation_fraction": 0, "test_fraction": 0}
    if not are_defaults:
        named = [STEPS[name] for name in steps if STEPS[name]]
        values["cleaning"] = [one.format(folder=folder) if isinstance(one, str) else one for one in named]
        values["deduplicate"] = EXACT in steps
    return CorpusConfig.parse(values)


def gains(results: Mapping[str, Sequence[float]], digests: Mapping[str, str]) -> Figures:
    """Of each row the mean, the values by seed, and the gain over `NOTHING` with a 95 % interval: Student's t with the
    residual variance of a randomized block design over rows of different texts.
    """
    different = list({digests[row]: values for row, values in results.items()}.values())
    n_rows, n_seeds = len(different), len(different[0])
    row_means = [statistics.fmean(values) for values in different]
    seed_means = [statistics.fmean(values) for values in zip(*different, strict=True)]
    mean = statistics.fmean(row_means)
    squares = sum(
        (value - row_mean - seed_mean + mean) ** 2
        for values, row_mean in zip(different, row_means, strict=True)
        for value, seed_mean in zip(values, seed_means, strict=True)
    )
    freedom = (n_rows - 1) * (n_seeds - 1)
    half = t_quantile(freedom) * math.sqrt(squares / freedom * 2 / n_seeds) if n_rows > 1 else 0.0
    found: Figures = {}
    for row, values in results.items():
        gain = statistics.fmean(results[NOTHING]) - statistics.fmean(values)
        own = 0.0 if digests[row] == digests[NOTHING] else half
        found[row] = {"bits_per_byte": statistics.fmean(values), "by_seed": list(values), "gain": gain}
        found[row] |= {"gain_low": gain - own, "gain_high": gain + own}
    return found


def t_quantile(freedom: int) -> float:
    """The 97.5 % point of Student's t, from 5 degrees of freedom on within 0.002 (Abramowitz and Stegun 1964, 26.7.5)."""
    z = statistics.NormalDist().inv_cdf(0.975)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, start=1))
