"""How well a model does its task: examples in, figures out, with intervals and samples for people.

    classify   accuracy, F1, Matthews' correlation        tag    accuracy and F1 over words
    regress    Pearson, Spearman, mean squared error      embed  whether a text's partner is the nearest of all
    translate  BLEU and chrF with sacrebleu's signatures, ROUGE, the share that is right to the letter

Texts that are too long for the model are cut as in training, and counted. Greedy decoding where nothing else is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from parakit.common.errors import UserError
from parakit.common.settings import closest_match
from parakit.data.examples import ExampleRow
from parakit.data.examples.formats import get_task_format
from parakit.evaluation.intervals import Estimate, bootstrap, bootstrap_mean, wilson_interval
from parakit.evaluation.metrics import classes, correlation, retrieval, translations
from parakit.inference.batching import MICRO_BATCH_SIZE
from parakit.inference.capabilities import Capability, require_capability
from parakit.inference.config import BeamConfig, SamplingConfig
from parakit.inference.generation.seq_to_seq import translate
from parakit.inference.prediction.classification import classify, regress, tag
from parakit.inference.prediction.embeddings import embed
from parakit.tokens.tokenizer.tokenizer import Tokenizer

Unit = Literal["share", "points", "number"]
N_SAMPLES = 12  # for people; half of them wrong where there are so many
TOGETHER = 8  # micro-batches between two calls of `advance`


@dataclass
class ExampleResult:
    """Figures of one model on one task's examples; `asdict` of it is plain JSON data."""

    task: str
    n: int
    figures: list[dict[str, Any]] = field(default_factory=list)
    """`name`, `value`, `low`, `high`, `unit` (share of 1, points of 100, number), `note`; the most telling first."""
    labels: list[str] = field(default_factory=list)
    confusion: list[list[int]] = field(default_factory=list)
    """Rows are right, columns are said, in the order of `labels`; of sequences and words alike."""
    samples: list[dict[str, Any]] = field(default_factory=list)
    """`input`, `prediction`, `expected`, `correct` (None where there is no right or wrong)."""

    def add(
        self, name: str, figure: Estimate, unit: Unit, note: str = "", chance: float | None = None
    ) -> None:
        """One more figure; `chance` is what it would be without looking at the text."""
        row = {"name": name, "value": figure.value, "low": figure.low, "high": figure.high}
        self.figures.append(
            row | {"unit": unit, "note": note} | ({} if chance is None else {"chance": chance})
        )

    def keep_samples(self, samples: Iterable[Mapping[str, Any]]) -> None:
        """The first wrong ones and the first others, `N_SAMPLES` in all."""
        found = [dict(sample) for sample in samples]
        wrong = [sample for sample in found if sample["correct"] is False]
        others = [sample for sample in found if sample["correct"] is not False]
        n_wrong = min(len(wrong), max(N_SAMPLES // 2, N_SAMPLES - len(others)))
        self.samples = wrong[:n_wrong] + others[: N_SAMPLES - n_wrong]

    def value(self, name: str) -> float:
        """A figure by its name."""
        return float(next(row["value"] for row in self.figures if row["name"] == name))


def evaluate_examples(
    model: Any,
    tokenizer: Tokenizer,
    task: str,
    rows: Iterable[ExampleRow],
    *,
    decoding: SamplingConfig | BeamConfig | None = None,
    micro_batch_size: int = MICRO_BATCH_SIZE,
    seed: int = 0,
    advance: Callable[[int], object] | None = None,
) -> ExampleResult:
    """Measure a model on the rows of a task (see `text.examples`).

    `decoding` is how translations are written, `seed` that of the intervals; `advance` is called with the number of
    rows done. A `UserError`: a model that is made for another task, a label that it does not know, no rows at all,
    a missing sacrebleu (before anything is translated).
    """
    get_task_format(task)
    ability: Capability = task  # type: ignore[assignment]
    require_capability(model, ability)
    if task == "translate":
        translations.require_libraries()
    found = list(rows)
    if not found:
        raise UserError("there is not one example to measure on", "give some, or name another split")
    measured = _Asked(model, tokenizer, found, decoding, micro_batch_size, seed, advance)
    return _MEASURES[task](measured)


@dataclass(frozen=True)
class _Asked:
    """What `evaluate_examples` was asked."""

    model: Any
    tokenizer: Tokenizer
    rows: Sequence[ExampleRow]
    decoding: SamplingConfig | BeamConfig | None
    micro_batch_size: int
    seed: int
    advance: Callable[[int], object] | None

    def answers(
        self, ask: Callable[..., Iterable[Any]], of: Callable[[ExampleRow], Any], **settings: Any
    ) -> list[Any]:
        """`ask(model, tokenizer, [of(row), ...])` for all rows, some micro-batches at a time."""
        size, found = self.micro_batch_size * TOGETHER, []
        for start in range(0, len(self.rows), size):
            part = [of(row) for row in self.rows[start : start + size]]
            settings |= {"too_long": "truncate", "micro_batch_size": self.micro_batch_size}
            found += list(ask(self.model, self.tokenizer, part, **settings))
            if self.advance is not None:
                self.advance(len(part))
        return found

    def result(self, task: str) -> ExampleResult:
        return ExampleResult(task, len(self.rows))


def _classify(asked: _Asked) -> ExampleResult:
    names = asked.model.classes.labels
    wanted = [row["label"] for row in asked.rows]
    _check_labels(wanted, names)
    said = [one.label for one in asked.answers(classify, _text_of)]
    result = asked.result("classify")
    _add_class_figures(result, said, wanted, names, asked.seed)
    result.keep_samples(
        _sample(" | ".join(_texts_of(row)), one, row["label"], one == row["label"])
        for row, one in zip(asked.rows, said, strict=True)
    )
    return result


def _tag(asked: _Asked) -> ExampleResult:
    names = asked.model.classes.labels
    wanted = [row["tags"] for row in asked.rows]
    _check_labels([one for tags in wanted for one in tags], names)
    answers = asked.answers(tag, lambda row: row["words"])
    said = [["" if one is None else one.label for one in words] for words in answers]  # "": no token to read
    flat_said, flat_wanted = ([one for tags in side for one in tags] for side in (said, wanted))
    result = asked.result("tag")
    right = np.array(
        [sum(a == b for a, b in zip(*pair, strict=True)) for pair in zip(said, wanted, strict=True)]
    )
    n_words = np.array([len(tags) for tags in wanted])
    n_unread = flat_said.count("")
    result.add(
        "accuracy",
        bootstrap_mean(right.astype(float), n_words, seed=asked.seed),
        "share",
        f"of {len(flat_wanted)} words{f', {n_unread} of them cut off' if n_unread else ''}; resampled by text",
        _most_frequent(flat_wanted),
    )
    counts = classes.confusion(flat_said, flat_wanted, [*names, ""])
    result.add("f1_macro", classes.bootstrap(counts, classes.f1, seed=asked.seed), "share")
    result.labels, result.confusion = list(names), counts[:-1, :-1].tolist()
    result.keep_samples(
        _sample(" ".join(row["words"]), " ".join(one), " ".join(row["tags"]), one == row["tags"])
        for row, one in zip(asked.rows, said, strict=True)
    )
    return result


def _regress(asked: _Asked) -> ExampleResult:
    said = np.array(asked.answers(regress, _text_of))
    wanted = np.array([row["score"] for row in asked.rows])
    result = asked.result("regress")
    for name, figure in (("pearson", correlation.pearson), ("spearman", correlation.spearman)):
        result.add(name, _resampled(figure, said, wanted, asked.seed), "number")
    result.add("mean_squared_error", bootstrap_mean((said - wanted) ** 2, seed=asked.seed), "number")
    result.keep_samples(
        _sample(" | ".join(_texts_of(row)), f"{one:.3g}", f"{row['score']:.3g}", None)
        for row, one in zip(asked.rows, said, strict=True)
    )
    return result


def _resampled(
    figure: Callable[[np.ndarray, np.ndarray], float], said: np.ndarray, wanted: np.ndarray, seed: int
) -> Estimate:
    return bootstrap(lambda items: figure(said[items], wanted[items]), len(said), seed=seed)


def _translate(asked: _Asked) -> ExampleResult:
    said = asked.answers(translate, lambda row: row["source"], config=asked.decoding)
    wanted = [row["target"] for row in asked.rows]
    result = asked.result("translate")
    for name, metric in (("bleu", translations.bleu), ("chrf", translations.chrf)):
        figure = metric(said, wanted, seed=asked.seed)
        result.add(name, figure, "points", figure.signature)
    for name, rouge in translations.rouge(said, wanted, seed=asked.seed).items():
        result.add(name, rouge, "points", "made for English: letters a to z and digits")
    n_right = sum(one.strip() == target.strip() for one, target in zip(said, wanted, strict=True))
    exact = Estimate(n_right / len(wanted), *wilson_interval(n_right, len(wanted)))
    result.add("exact", exact, "share", "right to the letter")
    result.keep_samples(
        _sample(row["source"], one, row["target"], True if one.strip() == row["target"].strip() else None)
        for row, one in zip(asked.rows, said, strict=True)
    )
    return result


def _embed(asked: _Asked) -> ExampleResult:
    candidates = list(dict.fromkeys(row["positive"] for row in asked.rows))
    place = {text: i for i, text in enumerate(candidates)}
    partner = np.array([place[row["positive"]] for row in asked.rows])
    vectors = np.stack(asked.answers(embed, lambda row: row["text"]))
    others = embed(
        asked.model,
        asked.tokenizer,
        candidates,
        too_long="truncate",
        micro_batch_size=asked.micro_batch_size,
    )
    ranks = retrieval.retrieval_ranks(vectors, others, partner)
    result = asked.result("embed")
    n_first, note = int((ranks == 1).sum()), f"among {len(candidates)} texts"
    first = Estimate(n_first / len(ranks), *wilson_interval(n_first, len(ranks)))
    result.add("accuracy_at_1", first, "share", note, 1 / len(candidates))
    result.add("mean_reciprocal_rank", bootstrap_mean(1 / ranks, seed=asked.seed), "number", note)
    nearest_ones = (vectors[:200] @ others.T).argmax(1)
    result.keep_samples(
        _sample(row["text"], candidates[one], row["positive"], bool(rank == 1))
        for row, one, rank in zip(asked.rows, nearest_ones, ranks, strict=False)
    )
    return result


_MEASURES: dict[str, Callable[[_Asked], ExampleResult]] = {
    "classify": _classify,
    "tag": _tag,
    "regress": _regress,
    "translate": _translate,
    "embed": _embed,
}


def _add_class_figures(
    result: ExampleResult, said: Sequence[str], wanted: Sequence[str], names: Sequence[str], seed: int
) -> None:
    counts = classes.confusion(said, wanted, names)
    result.add("accuracy", classes.accuracy_figure(counts), "share", chance=_most_frequent(wanted))
    if len(names) == 2:
        binary = classes.bootstrap(counts, lambda c: classes.f1(c, "binary"), seed=seed)
        result.add("f1", binary, "share", f"of the label {names[1]!r}")
    result.add("f1_macro", classes.bootstrap(counts, classes.f1, seed=seed), "share")
    result.add("matthews", classes.bootstrap(counts, classes.matthews, seed=seed), "number")
    result.labels, result.confusion = list(names), counts.tolist()


def _check_labels(wanted: Sequence[str], names: Sequence[str]) -> None:
    known = set(names)
    for label in wanted:
        if label not in known:
            close = closest_match(label, names)
            raise UserError(
                f"an example has the label {label!r}, and the model knows {', '.join(map(repr, names[:20]))}",
                f"did you mean {close!r}?"
                if close
                else "give examples of the task that the model was tuned for",
            )


def _most_frequent(wanted: Sequence[str]) -> float:
    """The share of the most frequent label: what one gets right by always saying it."""
    return max(wanted.count(label) for label in set(wanted)) / len(wanted)


def _texts_of(row: ExampleRow) -> tuple[str, ...]:
    return tuple(row[key] for key in ("text", "text_pair") if key in row)


def _text_of(row: ExampleRow) -> str | tuple[str, str]:
    return (row["text"], row["text_pair"]) if "text_pair" in row else row["text"]


def _sample(given: str, said: str, expected: str, correct: bool | None) -> dict[str, Any]:
    return {"input": given, "prediction": said, "expected": expected, "correct": correct}
