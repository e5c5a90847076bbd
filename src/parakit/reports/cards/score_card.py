"""Scores in a model card: a section with every score, its interval, its protocol and its contamination, and the same as
`model-index`, the metadata that model hubs read (huggingface_hub's `EvalResult`).

The card itself may be of any model, Parakit's or a published one; its other text and metadata stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parakit.common.artifacts import LINEAGE, open_artifact, read_lineage
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, read_json
from parakit.common.formatting import number, percent
from parakit.common.progress import log
from parakit.common.yaml_reading import YamlFault, parse_yaml
from parakit.evaluation.contamination.figures import describe_contamination
from parakit.evaluation.results import PROGRAM, RESULTS
from parakit.reports.cards.model_card import escape_markdown, model_card
from parakit.reports.formatting import model_stages
from parakit.reports.summary_schema import BuildSummary

START, END = "<!-- parakit scores: start -->", "<!-- parakit scores: end -->"
_TASK = {"type": "text-generation", "name": "Text Generation"}
_SHOWN = (
    "program",
    "version",
    "n_shots",
    "prompting",
    "system_prompt",
    "prompts_digest",
    "data_digest",
    "settings",
)


@dataclass(frozen=True)
class ScoreRow:
    """A score for the card. `score`: value, low, high, n; `protocol`: of a benchmark; `without`: the score without the
    items that were found in the training text.
    """

    dataset: str
    metric: str
    score: Mapping[str, Any]
    protocol: Mapping[str, Any] = field(default_factory=dict)
    contamination: JsonObject | None = None
    searched: bool = False
    """Whether the row is of items, so that contamination means something."""
    chance: float | None = None
    """The score of guessing."""

    @property
    def without(self) -> Mapping[str, Any] | None:
        """The score without the touched items, where there are some."""
        return ((self.contamination or {}).get("scores_without") or {}).get(self.metric)

    @property
    def is_share(self) -> bool:
        """Whether the value is printed in percent."""
        bounds = [self.score.get(name) for name in ("value", "low", "high")]
        return self.searched and all(bound is None or 0 <= bound <= 1 for bound in bounds)


def score_rows(results: JsonObject) -> list[ScoreRow]:
    """Every score in the content of a results.json: of benchmarks, suites, texts and examples of a task."""
    rows = [
        ScoreRow(name, metric, score, found["protocol"], found.get("contamination"), searched=True)
        for name, found in (results.get("benchmarks") or {}).items()
        for metric, score in sorted(found["scores"].items(), key=lambda item: item[0] != found["main"])
    ]
    for name, suite in (results.get("suites") or {}).items():
        score = {"value": suite["accuracy"]} | {key: suite.get(key) for key in ("low", "high", "n")}
        contamination = suite.get("contamination")
        if contamination and "scores_without" in contamination:
            scores = {"accuracy": contamination["scores_without"].get("right")}
            contamination = contamination | {"scores_without": scores}
        protocol = {"program": PROGRAM, "version": "1", "n_shots": 0, "prompting": suite.get("prompting")}
        chance = (results.get("chance") or {}).get(name)
        rows.append(ScoreRow(f"primer/{name}", "accuracy", score, protocol, contamination, True, chance))
    for name, loss in (results.get("loss") or {}).items():
        if loss.get("bits_per_byte") is not None:
            rows.append(
                ScoreRow(name, "bits_per_byte", {"value": loss["bits_per_byte"], "n": loss["n_bytes"]})
            )
        score = {"value": loss["loss_nats_per_token"], "n": loss["n_tokens"]}
        rows.append(
            ScoreRow(name, "nats_per_token", score | {"low": loss.get("low"), "high": loss.get("high")})
        )
    for metric in (results.get("examples") or {}).get("figures") or ():
        rows.append(ScoreRow("examples", metric["name"], metric))
    return rows


def build_card(summary: BuildSummary) -> str:
    """The card of the last model of a build, with its scores."""
    role, stage = list(model_stages(summary).items())[-1]
    results = {
        "benchmarks": {
            name: found[role].model_dump() | {"main": found[role].metric}
            for name, found in summary.benchmarks.items()
            if role in found and found[role].scores
        },
        "suites": {name: found[role].model_dump() for name, found in summary.suites.items() if role in found},
        "chance": summary.chance,
        "loss": {one.name: one.model_dump() for one in summary.evaluations if one.model == role},
    }
    return add_scores(model_card(summary, stage), summary.name, score_rows(results))


def card_with_evaluations(
    model: str | Path, evaluations: Sequence[str | Path], card: Path | None = None
) -> str:
    """The card of a model folder (or the file `card`) with the scores of evaluation folders; of one that several have, the
    last. `UserError` for the evaluation of another model.
    """
    folder = Path(model)
    own = read_lineage(folder)["digest"] if (folder / LINEAGE).is_file() else None
    rows: dict[tuple[str, str], ScoreRow] = {}
    for path in evaluations:
        evaluation = open_artifact(path, "evaluation")
        results = read_json(evaluation.path / RESULTS)
        measured = str((results.get("model") or {}).get("path"))
        digests = {parent["digest"] for parent in evaluation.lineage["parents"]}
        if not (own in digests if own else Path(measured).resolve() == folder.resolve()):
            raise UserError(
                f"{path}: is the evaluation of another model than {model}: of {measured}",
                "evaluate this model: parakit evaluate MODEL --output FOLDER",
            )
        rows |= {(row.dataset, row.metric): row for row in score_rows(results)}
    return scored_card(folder, list(rows.values()), card)


def scored_card(model: Path, rows: Sequence[ScoreRow], card: Path | None = None) -> str:
    """The card of the model folder `model` (or the file `card`), or an empty one, with these scores."""
    card = card or model / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else None
    return add_scores(text, model.resolve().name, rows)


def add_scores(card: str | None, name: str, rows: Sequence[ScoreRow]) -> str:
    """`card` (None: an empty one) of the model `name` with these scores instead of those that it had from Parakit."""
    metadata, body = split_front_matter(card or f"# {escape_markdown(name)}\n")
    if START in body and END in body:
        body = body[: body.index(START)].rstrip("\n") + "\n" + body[body.index(END) + len(END) :]
    index = _model_index(metadata.pop("model-index", None), name, rows)
    metadata |= {"model-index": index} if index[0]["results"] else {}
    section = f"\n\n{START}\n{score_section(rows)}\n{END}" if rows else ""
    return f"{front_matter(metadata) if metadata else ''}{body.rstrip()}{section}\n"


def score_section(rows: Sequence[ScoreRow]) -> str:
    """The section of the card."""
    lines = [
        "## Scores",
        "",
        "| benchmark | metric | score | 95 % interval | n | in the searched text | score without these items |",
        "| --- | --- | ---: | ---: | ---: | --- | ---: |",
    ]
    for row in rows:
        without = f"{_value(row, row.without)} ({_interval(row, row.without)})" if row.without else ""
        cells = (
            row.dataset,
            row.metric + (f" (guessing: {percent(row.chance)})" if row.chance is not None else ""),
            _value(row, row.score),
            _interval(row, row.score),
            number(row.score.get("n")),
            describe_contamination(row.contamination) if row.searched else "",
            without,
        )
        lines.append(f"| {' | '.join(escape_markdown(cell) for cell in cells)} |")
    protocols = {row.dataset: row for row in rows if row.protocol}
    lines += (
        ["", *(f"- {escape_markdown(line)}" for line in map(_protocol, protocols.values()))]
        if protocols
        else []
    )
    searched = {line: None for row in rows for line in _searched(row.contamination)}
    if searched:
        lines += [
            "",
            "Items were searched as runs of words in these texts; paraphrases are not found.",
            "",
        ]
        lines += [f"- {escape_markdown(line)}" for line in searched]
    return "\n".join(lines)


def split_front_matter(card: str) -> tuple[JsonObject, str]:
    """The metadata of a card and its text. Metadata that is no YAML mapping is left out, which is printed."""
    if not card.startswith("---\n") or "\n---" not in card[3:]:
        return {}, card
    end = card.index("\n---", 3)
    rest = card[end + 4 :].partition("\n")[2]
    try:
        found = parse_yaml(card[4 : end + 1])
    except YamlFault as fault:
        log(f"warning: the metadata of the model card is no YAML and is left out: {fault}")
        return {}, rest
    return (found if isinstance(found, dict) else {}), rest


def front_matter(metadata: JsonObject) -> str:
    """Metadata as the first lines of a card."""
    import yaml

    return f"---\n{yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=10_000)}---\n"


def _model_index(existing: object, name: str, rows: Sequence[ScoreRow]) -> list[JsonObject]:
    """The index with the rows' results; results that others wrote stay."""
    old = existing[0] if isinstance(existing, list) and existing and isinstance(existing[0], dict) else {}
    kept = [
        one
        for one in old.get("results") or ()
        if isinstance(one, dict) and "parakit" not in ((one.get("dataset") or {}).get("args") or {})
    ]
    datasets = dict.fromkeys(row.dataset for row in rows)
    found = [_index_entry([row for row in rows if row.dataset == dataset]) for dataset in datasets]
    return [{"name": str(old.get("name") or name), "results": [*kept, *found]}]


def _index_entry(rows: Sequence[ScoreRow]) -> JsonObject:
    first = rows[0]
    dataset: JsonObject = {"name": first.dataset, "type": str(first.protocol.get("task") or first.dataset)}
    if split := first.protocol.get("split"):
        dataset["split"] = split
    protocol = {key: first.protocol[key] for key in _SHOWN if first.protocol.get(key) not in (None, {}, "")}
    return {
        "task": dict(_TASK),
        "dataset": dataset | {"args": {"parakit": 1, **_plain(protocol)}},
        "metrics": [_index_metric(row) for row in rows],
    }


def _index_metric(row: ScoreRow) -> JsonObject:
    args: JsonObject = {key: row.score[key] for key in ("low", "high", "n") if row.score.get(key) is not None}
    if row.searched:
        args["contamination"] = describe_contamination(row.contamination)
    if row.without:
        args["without_touched_items"] = {key: row.without[key] for key in ("value", "low", "high", "n")}
    return {"type": row.metric, "name": row.metric, "value": _plain(row.score["value"]), "args": _plain(args)}


def _plain(value: Any) -> Any:
    """Plain dicts and lists, which YAML writes."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _value(row: ScoreRow, score: Mapping[str, Any]) -> str:
    return percent(score["value"]) if row.is_share else number(score["value"], 4)


def _interval(row: ScoreRow, score: Mapping[str, Any]) -> str:
    if score.get("low") is None:
        return ""
    low, high = (percent(score[k]) if row.is_share else number(score[k], 4) for k in ("low", "high"))
    return f"{low} to {high}"


def _protocol(row: ScoreRow) -> str:
    protocol = row.protocol
    parts = [str(protocol.get("program") or ""), f"task version {protocol.get('version')}"]
    parts += [f"{protocol.get('n_shots', 0)} shots", f"prompting: {protocol.get('prompting')}"]
    parts += [
        f"{key.replace('_', ' ')} {protocol[key]}" for key in ("prompts_digest", "split") if protocol.get(key)
    ]
    parts += ["with a system prompt"] if protocol.get("system_prompt") else []
    parts += [f"{key} = {value}" for key, value in (protocol.get("settings") or {}).items()]
    return f"{row.dataset}: {', '.join(part for part in parts if part)}"


def _searched(contamination: JsonObject | None) -> Iterable[str]:
    """What was searched and what not; of paths the last name, as a card is read by others."""
    for text in (contamination or {}).get("texts") or ():
        yield f"Searched: {text['kind']} {_last_name(text['path'])}, {text['n_bytes']:,} bytes, digest {text['digest'][:16]}"
    for reason in (contamination or {}).get("unknown") or ():
        yield f"Not searched: {_last_name(reason)}"


def _last_name(text: str) -> str:
    return re.sub(r"\S*[/\\](?=\S)", "", text)
