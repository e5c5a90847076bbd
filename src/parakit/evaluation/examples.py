"""Metrics of a model on the examples of its task, with confidence intervals and samples.

    classify   accuracy, F1, Matthews' correlation        tag    accuracy and F1 over words
    regress    Pearson, Spearman, mean squared error      embed  whether a text's partner is the nearest of all texts
    multi_label  F1 of all labels together, and the mean over labels; texts with exactly the right labels
    answer     exact matches and F1 of words, as SQuAD measures them
    translate  BLEU and chrF with sacrebleu's signatures, ROUGE, exact matches

Texts that are too long for the model are truncated as in training. Decoding is greedy by default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import OnProgress
from parakit.common.settings import closest_match
from parakit.data.examples import ExampleRow
from parakit.data.examples.formats import get_task_format
from parakit.evaluation.intervals import Estimate, bootstrap, bootstrap_mean, wilson_interval
from parakit.evaluation.metrics import answers, classes, correlation, retrieval, translations
from parakit.inference.batching import MICRO_BATCH_SIZE
from parakit.inference.capabilities import Capability, require_capability
from parakit.inference.config import BeamConfig, SamplingConfig
from parakit.inference.generation.seq_to_seq import translate
from parakit.inference.prediction.answers import answer
from parakit.inference.prediction.classification import classify, multi_label, regress, tag
from parakit.inference.prediction.embeddings import embed
from parakit.tokens.tokenizer.tokenizer import Tokenizer

Unit = Literal["share", "points", "number"]
N_SAMPLES = 12  # half of them wrong where there are enough
MICRO_BATCHES_PER_UPDATE = 8  # micro-batches between two calls of `advance`


@dataclass
class ExampleResult:
    """Metrics of one model on one task's examples; `asdict` gives plain JSON data."""

    task: str
    n: int
    figures: list[JsonObject] = field(default_factory=list)
    """`name`, `value`, `low`, `high`, `unit` (share of 1, points of 100, number), `note`; the primary one first."""
    labels: list[str] = field(default_factory=list)
    confusion: list[list[int]] = field(default_factory=list)
    """Rows are true labels, columns predictions, in the order of `labels`."""
    samples: list[JsonObject] = field(default_factory=list)
    """`input`, `prediction`, `expected`, `correct` (None where correctness is undefined)."""

    def add(
        self, name: str, figure: Estimate, unit: Unit, note: str = "", chance: float | None = None
    ) -> None:
        """Add a figure; `chance` is its value without looking at the text."""
        row = {"name": name, "value": figure.value, "low": figure.low, "high": figure.high}
        self.figures.append(
            row | {"unit": unit, "note": note} | ({} if chance is None else {"chance": chance})
        )

    def keep_samples(self, samples: Iterable[Mapping[str, Any]]) -> None:
        """The first wrong samples and the first candidate_vectors, `N_SAMPLES` in all."""
        all_samples = [dict(sample) for sample in samples]
        wrong = [sample for sample in all_samples if sample["correct"] is False]
        others = [sample for sample in all_samples if sample["correct"] is not False]
        n_wrong = min(len(wrong), max(N_SAMPLES // 2, N_SAMPLES - len(others)))
        self.samples = wrong[:n_wrong] + others[: N_SAMPLES - n_wrong]

    def value(self, name: str) -> float:
        """The value of a figure."""
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
    advance: OnProgress | None = None,
) -> ExampleResult:
    """Evaluate a model on the rows of a task (see `data.examples`).

    `decoding` is for translations, `seed` for the intervals; `advance` is called with the number of rows done.
    `UserError` for a model of another task, an unknown label, no rows, and a missing sacrebleu (before anything is
    translated).
    """
    get_task_format(task)
    capability: Capability = task  # type: ignore[assignment]
    require_capability(model, capability)
    if task == "translate":
        translations.require_libraries()
    examples = list(rows)
    if not examples:
        raise UserError("no examples to evaluate on", "add some, or name another split")
    evaluation = _Evaluation(model, tokenizer, examples, decoding, micro_batch_size, seed, advance)
    return _EVALUATORS[task](evaluation)


@dataclass(frozen=True)
class _Evaluation:
    """The arguments of `evaluate_examples`."""

    model: Any
    tokenizer: Tokenizer
    rows: Sequence[ExampleRow]
    decoding: SamplingConfig | BeamConfig | None
    micro_batch_size: int
    seed: int
    advance: OnProgress | None

    def predict_all(
        self, predict: Callable[..., Iterable[Any]], of: Callable[[ExampleRow], Any], **settings: Any
    ) -> list[Any]:
        """`predict(model, tokenizer, [of(row), ...])` for all rows, some micro-batches at a time."""
        size, predictions = self.micro_batch_size * MICRO_BATCHES_PER_UPDATE, []
        for start in range(0, len(self.rows), size):
            part = [of(row) for row in self.rows[start : start + size]]
            settings |= {"too_long": "truncate", "micro_batch_size": self.micro_batch_size}
            predictions += list(predict(self.model, self.tokenizer, part, **settings))
            if self.advance is not None:
                self.advance(len(part))
        return predictions

    def result(self, task: str) -> ExampleResult:
        return ExampleResult(task, len(self.rows))


def _classify(evaluation: _Evaluation) -> ExampleResult:
    names = evaluation.model.classes.labels
    expected = [row["label"] for row in evaluation.rows]
    _check_labels(expected, names)
    predictions = [one.label for one in evaluation.predict_all(classify, _text_of)]
    result = evaluation.result("classify")
    _add_class_figures(result, predictions, expected, names, evaluation.seed)
    result.keep_samples(
        _sample(" | ".join(_texts_of(row)), one, row["label"], one == row["label"])
        for row, one in zip(evaluation.rows, predictions, strict=True)
    )
    return result


def _multi_label(evaluation: _Evaluation) -> ExampleResult:
    names = evaluation.model.classes.labels
    expected = [row["labels"] for row in evaluation.rows]
    _check_labels([one for labels in expected for one in labels], names)
    predictions = [one.labels for one in evaluation.predict_all(multi_label, _text_of)]
    truth, predicted = (
        np.array([[name in labels for name in names] for labels in side]) for side in (expected, predictions)
    )
    result = evaluation.result("multi_label")
    for name in ("f1_micro", "f1_macro"):
        average = name.removeprefix("f1_")
        figure = bootstrap(
            lambda items, a=average: classes.label_set_f1(predicted[items], truth[items], a),  # type: ignore[misc]
            len(truth),
            seed=evaluation.seed,
        )
        result.add(name, figure, "share")
    right = (truth == predicted).all(1)
    note = "all labels of a text right"
    result.add(
        "exact", Estimate(float(right.mean()), *wilson_interval(int(right.sum()), len(right))), "share", note
    )
    result.labels = list(names)
    result.keep_samples(
        _sample(
            " | ".join(_texts_of(row)), ", ".join(one) or "none", ", ".join(row["labels"]) or "none", bool(ok)
        )
        for row, one, ok in zip(evaluation.rows, predictions, right, strict=True)
    )
    return result


def _answer(evaluation: _Evaluation) -> ExampleResult:
    found = evaluation.predict_all(answer, lambda row: (row["question"], row["context"]))
    predictions = [one.text for one in found]
    expected = [row["answers"] or [""] for row in evaluation.rows]
    exact = np.array([answers.exact(*pair) for pair in zip(predictions, expected, strict=True)])
    overlap = np.array([answers.f1(*pair) for pair in zip(predictions, expected, strict=True)])
    result = evaluation.result("answer")
    n_right = int(exact.sum())
    result.add("exact", Estimate(n_right / len(exact), *wilson_interval(n_right, len(exact))), "share")
    result.add("f1_tokens", bootstrap_mean(overlap, seed=evaluation.seed), "share")
    result.keep_samples(
        _sample(
            f"{row['question']} | {row['context']}", one or "none", " or ".join(right) or "none", bool(ok)
        )
        for row, one, right, ok in zip(evaluation.rows, predictions, expected, exact, strict=True)
    )
    return result


def _tag(evaluation: _Evaluation) -> ExampleResult:
    names = evaluation.model.classes.labels
    expected = [row["tags"] for row in evaluation.rows]
    _check_labels([one for tags in expected for one in tags], names)
    answers = evaluation.predict_all(tag, lambda row: row["words"])
    predictions = [["" if one is None else one.label for one in words] for words in answers]  # "": cut off
    flat_predictions, flat_labels = (
        [one for tags in side for one in tags] for side in (predictions, expected)
    )
    result = evaluation.result("tag")
    right = np.array(
        [sum(a == b for a, b in zip(*pair, strict=True)) for pair in zip(predictions, expected, strict=True)]
    )
    n_words = np.array([len(tags) for tags in expected])
    n_cut_off = flat_predictions.count("")
    result.add(
        "accuracy",
        bootstrap_mean(right.astype(float), n_words, seed=evaluation.seed),
        "share",
        f"of {len(flat_labels)} words{f', {n_cut_off} of them cut off' if n_cut_off else ''}; resampled by text",
        _most_frequent(flat_labels),
    )
    counts = classes.confusion(flat_predictions, flat_labels, [*names, ""])
    result.add("f1_macro", classes.bootstrap_counts(counts, classes.f1, seed=evaluation.seed), "share")
    result.labels, result.confusion = list(names), counts[:-1, :-1].tolist()
    result.keep_samples(
        _sample(" ".join(row["words"]), " ".join(one), " ".join(row["tags"]), one == row["tags"])
        for row, one in zip(evaluation.rows, predictions, strict=True)
    )
    return result


def _regress(evaluation: _Evaluation) -> ExampleResult:
    predictions = np.array(evaluation.predict_all(regress, _text_of))
    expected = np.array([row["score"] for row in evaluation.rows])
    result = evaluation.result("regress")
    for name, figure in (("pearson", correlation.pearson), ("spearman", correlation.spearman)):
        result.add(name, _resampled(figure, predictions, expected, evaluation.seed), "number")
    result.add(
        "mean_squared_error", bootstrap_mean((predictions - expected) ** 2, seed=evaluation.seed), "number"
    )
    result.keep_samples(
        _sample(" | ".join(_texts_of(row)), f"{one:.3g}", f"{row['score']:.3g}", None)
        for row, one in zip(evaluation.rows, predictions, strict=True)
    )
    return result


def _resampled(
    figure: Callable[[np.ndarray, np.ndarray], float],
    predictions: np.ndarray,
    expected: np.ndarray,
    seed: int,
) -> Estimate:
    return bootstrap(lambda items: figure(predictions[items], expected[items]), len(predictions), seed=seed)


def _translate(evaluation: _Evaluation) -> ExampleResult:
    predictions = evaluation.predict_all(translate, lambda row: row["source"], config=evaluation.decoding)
    expected = [row["target"] for row in evaluation.rows]
    result = evaluation.result("translate")
    for name, metric in (("bleu", translations.bleu), ("chrf", translations.chrf)):
        figure = metric(predictions, expected, seed=evaluation.seed)
        result.add(name, figure, "points", figure.signature)
    for name, rouge in translations.rouge(predictions, expected, seed=evaluation.seed).items():
        result.add(name, rouge, "points", "made for English: letters a to z and digits")
    n_right = sum(one.strip() == target.strip() for one, target in zip(predictions, expected, strict=True))
    exact = Estimate(n_right / len(expected), *wilson_interval(n_right, len(expected)))
    result.add("exact", exact, "share", "exact matches")
    result.keep_samples(
        _sample(row["source"], one, row["target"], True if one.strip() == row["target"].strip() else None)
        for row, one in zip(evaluation.rows, predictions, strict=True)
    )
    return result


def _embed(evaluation: _Evaluation) -> ExampleResult:
    positives = [row["positive"] for row in evaluation.rows]
    negatives = [text for row in evaluation.rows for text in row.get("negatives", ())]
    candidates = list(dict.fromkeys([*positives, *negatives]))
    place = {text: i for i, text in enumerate(candidates)}
    partner = np.array([place[text] for text in positives])
    vectors = np.stack(evaluation.predict_all(embed, lambda row: row["text"]))
    candidate_vectors = embed(
        evaluation.model,
        evaluation.tokenizer,
        candidates,
        too_long="truncate",
        micro_batch_size=evaluation.micro_batch_size,
    )
    ranks = retrieval.retrieval_ranks(vectors, candidate_vectors, partner)
    result = evaluation.result("embed")
    n_first, note = int((ranks == 1).sum()), f"among {len(candidates)} texts"
    first = Estimate(n_first / len(ranks), *wilson_interval(n_first, len(ranks)))
    result.add("accuracy_at_1", first, "share", note, 1 / len(candidates))
    result.add("mean_reciprocal_rank", bootstrap_mean(1 / ranks, seed=evaluation.seed), "number", note)
    nearest_ones = (vectors[:200] @ candidate_vectors.T).argmax(1)
    result.keep_samples(
        _sample(row["text"], candidates[one], row["positive"], bool(rank == 1))
        for row, one, rank in zip(evaluation.rows, nearest_ones, ranks, strict=False)
    )
    return result


_EVALUATORS: dict[str, Callable[[_Evaluation], ExampleResult]] = {
    "classify": _classify,
    "multi_label": _multi_label,
    "tag": _tag,
    "regress": _regress,
    "answer": _answer,
    "translate": _translate,
    "embed": _embed,
}


def _add_class_figures(
    result: ExampleResult,
    predictions: Sequence[str],
    expected: Sequence[str],
    names: Sequence[str],
    seed: int,
) -> None:
    counts = classes.confusion(predictions, expected, names)
    result.add("accuracy", classes.accuracy_figure(counts), "share", chance=_most_frequent(expected))
    if len(names) == 2:
        binary = classes.bootstrap_counts(counts, lambda c: classes.f1(c, "binary"), seed=seed)
        result.add("f1", binary, "share", f"of the label {names[1]!r}")
    result.add("f1_macro", classes.bootstrap_counts(counts, classes.f1, seed=seed), "share")
    result.add("matthews", classes.bootstrap_counts(counts, classes.matthews, seed=seed), "number")
    result.labels, result.confusion = list(names), counts.tolist()


def _check_labels(expected: Sequence[str], names: Sequence[str]) -> None:
    known = set(names)
    for label in expected:
        if label not in known:
            close = closest_match(label, names)
            raise UserError(
                f"an example has the label {label!r}, and the model knows {', '.join(map(repr, names[:20]))}",
                f"did you mean {close!r}?"
                if close
                else "give examples of the task that the model was tuned for",
            )


def _most_frequent(expected: Sequence[str]) -> float:
    """The share of the most frequent label: the accuracy of always predicting it."""
    return max(expected.count(label) for label in set(expected)) / len(expected)


def _texts_of(row: ExampleRow) -> tuple[str, ...]:
    return tuple(row[key] for key in ("text", "text_pair") if key in row)


def _text_of(row: ExampleRow) -> str | tuple[str, str]:
    return (row["text"], row["text_pair"]) if "text_pair" in row else row["text"]


def _sample(given: str, prediction: str, expected: str, correct: bool | None) -> JsonObject:
    return {"input": given, "prediction": prediction, "expected": expected, "correct": correct}
