"""Scores of a family of models: the same benchmark at several sizes, or with several numbers of shots.

Read from evaluation folders. Scores belong to one line only where the protocol is the same but for the shots, and the
prompts that follow from them; else the difference is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from parakit import primer
from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.files import JsonObject
from parakit.evaluation.intervals import mean_interval
from parakit.evaluation.results import open_evaluation

MAY_DIFFER = {"n_shots", "prompts_digest"}
SUITE_MEAN = "mean of the suites"
# Of tasks with a fixed number of choices, the share that guessing gets right (from the tasks' own papers).
CHANCE = {
    **dict.fromkeys(("arc_easy", "arc_challenge", "hellaswag", "mmlu", "openbookqa"), 0.25),
    **dict.fromkeys(("piqa", "winogrande", "boolq", "copa", "rte"), 0.5),
    "commonsense_qa": 0.2,
}


@dataclass(frozen=True)
class FamilyScore:
    """A model's score on a benchmark with its 95 % interval: over items, or over models where several are of one size.
    `is_share`: it is one of 1; `chance`: what guessing gets, where that is known.
    """

    benchmark: str
    parameters: int
    n_shots: int
    value: float
    low: float
    high: float
    n_models: int = 1
    is_share: bool = True
    chance: float | None = None

    def to_dict(self) -> JsonObject:
        """As plain data; no interval is null."""
        row = asdict(self)
        return row | {key: row[key] if abs(row[key]) < float("inf") else None for key in ("low", "high")}


def family_scores(folders: Sequence[str | Path]) -> list[FamilyScore]:
    """The scores in these evaluation folders that more than one of them has, by benchmark, shots and parameters.
    `UserError` where there are none, and where two have another protocol.
    """
    protocols: dict[str, tuple[str, JsonObject]] = {}
    found: dict[tuple[str, int, int], list[FamilyScore]] = {}
    for folder in folders:
        for score, protocol in _scores(Path(folder)):
            first, expected = protocols.setdefault(score.benchmark, (str(folder), protocol))
            if differing := [key for key in expected if expected[key] != protocol.get(key)]:
                raise UserError(
                    f"{folder}: {score.benchmark} has another protocol than in {first}: {', '.join(differing)}",
                    "evaluate all models in the same way; only the number of shots may differ",
                )
            found.setdefault((score.benchmark, score.n_shots, score.parameters), []).append(score)
    ordered = sorted(found, key=lambda key: (key[0] != SUITE_MEAN, key))
    scores = [_joined(found[key]) for key in ordered]
    common = {
        one.benchmark for one in scores if sum(one.benchmark == other.benchmark for other in scores) > 1
    }
    if not common:
        raise UserError(
            "these evaluations have no benchmark in common at two sizes or two numbers of shots",
            "evaluate several models on the same tasks or suites, or one with several --n-shots",
        )
    return [one for one in scores if one.benchmark in common]


def guessing(benchmark: str) -> float | None:
    """The share of a benchmark's items that guessing gets right; None where that is not known."""
    return CHANCE["mmlu"] if benchmark.startswith("mmlu_") else CHANCE.get(benchmark)


def _scores(folder: Path) -> list[tuple[FamilyScore, JsonObject]]:
    """Of one evaluation, each score with the part of its protocol that has to be the same."""
    _, results = open_evaluation(
        folder, "evaluate one of its models: parakit evaluate BUILD --suites --output FOLDER"
    )
    again = "evaluate the model again: parakit evaluate MODEL --output FOLDER"
    try:
        parameters = int(results["model"]["parameters"])
        return [*_of_benchmarks(results, parameters), *_of_suites(results, parameters)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptArtifact(f"{folder}: its results cannot be read: {error!r}", again) from None


def _of_benchmarks(results: JsonObject, parameters: int) -> list[tuple[FamilyScore, JsonObject]]:
    rows = []
    for name, one in (results.get("benchmarks") or {}).items():
        main, protocol = one["scores"][one["main"]], one["protocol"]
        share = main["low"] >= 0 and main["high"] <= 1
        ends = (main["value"], main["low"], main["high"])
        shots = int(protocol["n_shots"])
        score = FamilyScore(name, parameters, shots, *ends, is_share=share, chance=guessing(name))
        same = {key: value for key, value in protocol.items() if key not in MAY_DIFFER}
        rows.append((score, same | {"items": one["n"], "main": one["main"]}))
    return rows


def _of_suites(results: JsonObject, parameters: int) -> list[tuple[FamilyScore, JsonObject]]:
    rows = []
    suites: dict[str, Any] = results.get("suites") or {}
    for name, one in suites.items():
        ends = (one["accuracy"], one["low"], one["high"])
        score = FamilyScore(name, parameters, 0, *ends, chance=primer.CHANCE.get(name))
        rows.append((score, {"prompting": one["prompting"], "items": one["n"]}))
    if len(suites) > 1:
        mean = sum(one["accuracy"] for one in suites.values()) / len(suites)
        guess = [primer.CHANCE[name] for name in suites if name in primer.CHANCE]
        chance = sum(guess) / len(guess) if len(guess) == len(suites) else None
        score = FamilyScore(SUITE_MEAN, parameters, 0, mean, float("-inf"), float("inf"), chance=chance)
        rows.insert(0, (score, {"suites": sorted(suites)}))
    return rows


def _joined(scores: Sequence[FamilyScore]) -> FamilyScore:
    """Of models of one size the mean, with its interval over them."""
    first = scores[0]
    if len(scores) == 1:
        return first
    found = mean_interval([one.value for one in scores])
    return FamilyScore(
        *(first.benchmark, first.parameters, first.n_shots, found.value, found.low, found.high, len(scores)),
        is_share=all(one.is_share for one in scores),
        chance=first.chance,
    )
