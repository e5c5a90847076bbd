"""What `parakit show` reports of evaluations, of red-team reports and of models that were judged."""

from pathlib import Path
from typing import Any

from parakit.cli.rendering.show_shapes import EvaluationResults, JudgingResults, RedTeamResults
from parakit.cli.rendering.tables import score_text
from parakit.common.files import JsonObject, read_json
from parakit.evaluation.contamination.figures import contamination_share
from parakit.reports.benchmarks import DIGEST_CHARS, prompt_form
from parakit.reports.judging import judged_rows

RESULTS = "results.json"
_LOSS_KEYS = ("bits_per_byte", "perplexity", "n_bytes", "n_documents", "n_end_tokens", "end_nats_per_token")


def describe_evaluation(path: Path, lineage: JsonObject) -> tuple[str, JsonObject, dict[str, list[str]]]:
    """Benchmarks, suites and texts, of one model or of all models of a build."""
    results = read_json(path / RESULTS, EvaluationResults)
    texts = [
        {"text": name} | {key: loss.get(key) for key in _LOSS_KEYS}
        for name, loss in (results.get("loss") or {}).items()
    ]
    texts += [
        {"text": row.get("name"), "model": row.get("model")} | {key: row.get(key) for key in _LOSS_KEYS}
        for row in results.get("evaluations") or []
    ]
    suites = suite_rows(results.get("suites") or {})
    benchmarks = benchmark_rows(results.get("benchmarks") or {})
    return (
        f"an evaluation: {len(benchmarks)} scores of benchmarks, {len(suites)} suite results, {len(texts)} texts",
        {"benchmarks": benchmarks, "suites": suites, "text": texts},
        {},
    )


def describe_red_team(path: Path, lineage: JsonObject) -> tuple[str, JsonObject, dict[str, list[str]]]:
    """How many attacks of each category succeed."""
    results = read_json(path / RESULTS, RedTeamResults)
    rows = [
        {
            "category": name.replace("_", " "),
            "model": role,
            "success": "" if found["success"] is None else f"{found['success']:.1%}",
            "95 % interval": _interval(found),
            "attacks": found["n"],
        }
        for role, figures in results["categories"].items()
        for name, found in figures.items()
    ]
    return f"a red-team report, judged by {results['judge']}", {"attacks that succeed": rows}, {}


def describe_judging(path: Path, lineage: JsonObject) -> tuple[str, JsonObject, dict[str, list[str]]]:
    """A row for each model, best first."""
    results = read_json(path / RESULTS, JudgingResults)
    return f"models judged by {results['judge']}", {"models": judged_rows(results)}, {}


def suite_rows(suites: JsonObject) -> list[JsonObject]:
    """A row per suite and model; an evaluation of one model has no level of models."""
    return [
        {
            "suite": suite,
            "model": model,
            "accuracy": f"{result['accuracy']:.1%}",
            "95 % interval": _interval(result),
            "questions": result.get("n"),
        }
        for suite, results in suites.items()
        for model, result in _by_model(results, "accuracy").items()
    ]


def benchmark_rows(benchmarks: JsonObject) -> list[JsonObject]:
    """A row per benchmark and model, of the main score; an evaluation of one model has no level of models."""
    rows = []
    for name, results in benchmarks.items():
        for model, result in _by_model(results, "main").items():
            metric = result.get("main", result.get("metric"))
            score, protocol = result["scores"].get(metric, result), result.get("protocol") or {}
            low, high = score_text(score["low"]), score_text(score["high"])
            rows.append(
                {
                    "benchmark": name,
                    "model": model,
                    "metric": metric,
                    "value": score_text(score["value"]),
                    "95 % interval": f"{low} to {high}",
                    "items": score["n"],
                    "prompts": prompt_form(protocol),
                    "digest": str(protocol.get("prompts_digest", ""))[:DIGEST_CHARS],
                    "leaked": contamination_share(result.get("contamination")),
                }
            )
    return rows


def _by_model(results: dict[str, Any], own_key: str) -> dict[str, Any]:
    """Results by model. `own_key`: a key of a result itself."""
    return {"": results} if own_key in results else results


def _interval(result: JsonObject) -> str:
    low, high = result.get("low"), result.get("high")
    return "" if low is None or high is None else f"{low:.1%} to {high:.1%}"
