"""A red-team run: one model or two answer every attack, a judge judges the answers, and an artifact is written.

The folder (kind "red_team") holds `results.json`, `attacks.jsonl`, a transcript for each model, and `report.html`.
Answers are cached next to it, so an interrupted run (a judge cannot be reached, for example) resumes where it stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from parakit.alignment.jsonl_cache import cached_map
from parakit.alignment.red_team.config import RULES, RedTeamConfig
from parakit.alignment.red_team.model_judge import judge_by_model
from parakit.alignment.red_team.readers import read_attacks
from parakit.common.artifacts import LINEAGE, Lineage, resumable_output, writing_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, write_json_atomic, write_text_atomic
from parakit.common.progress import Bar, progress
from parakit.common.settings import canonical_json, config_digest
from parakit.evaluation.attack_judging import judge_by_rules
from parakit.inference.chat_models.chat_model import ChatModel
from parakit.inference.chat_models.loading import open_chat_model
from parakit.primer.attacks.attack import Attack
from parakit.primer.attacks.suites import primer_attacks
from parakit.reports.red_team import render_red_team
from parakit.stages.red_team.figures import attack_figures, compare_attacks

RESULTS, ATTACKS = "results.json", "attacks.jsonl"
AFTER, BEFORE = "after", "before"

Transcript = list[JsonObject]


@dataclass(frozen=True)
class RedTeamJob:
    """The model to attack, and the earlier model `against` which to compare it: differences are after minus before. Both
    are model folders or URLs.
    """

    model: str
    config: RedTeamConfig
    against: str | None = None
    device: str = "cpu"


def red_team(job: RedTeamJob, out: Path, overwrite: bool = False) -> JsonObject:
    """Attack, judge, and write the artifact folder `out`; returns the content of `results.json`."""
    with resumable_output(out, overwrite=overwrite) as work:
        return _red_team(job, out, work, overwrite)


def _red_team(job: RedTeamJob, out: Path, work: Path, overwrite: bool) -> JsonObject:
    attacks = _attacks(job.config)
    models = {BEFORE: job.against, AFTER: job.model} if job.against else {AFTER: job.model}
    judge = _judge(job)
    transcripts: dict[str, Transcript] = {}
    with progress("redteam", len(attacks) * len(models), "attacks") as bar:
        for role, where in models.items():
            chat_model = open_chat_model(where, device=job.device)
            transcripts[role] = _transcript(job.config, chat_model, attacks, judge, work, bar)
    results = {
        "models": models,
        "judge": RULES if judge is None else judge.name,
        "categories": {role: attack_figures(rows) for role, rows in transcripts.items()},
        "compared": compare_attacks(transcripts[BEFORE], transcripts[AFTER]) if job.against else {},
    }
    _write(job, out, overwrite, results, attacks, transcripts)
    return results


def attack_and_judge(
    chat_model: ChatModel,
    attacks: Sequence[Attack],
    *,
    max_new_tokens: int = 80,
    judge: ChatModel | None = None,
) -> Transcript:
    """A row for each attack: the attack, the answer of `chat_model`, and the verdict. Writes nothing."""
    answers = chat_model.generate([attack.messages for attack in attacks], max_new_tokens=max_new_tokens)
    return _judge_all(attacks, answers, judge)


def _attacks(config: RedTeamConfig) -> list[Attack]:
    if config.attacks:
        attacks = [attack for path in config.attacks for attack in read_attacks(path)]
        return list({attack.id: attack for attack in attacks}.values())
    if not config.suites:
        raise UserError("no attacks were given", "name --suites or --attacks FILE")
    return primer_attacks(config.n_attacks, config.seed, categories=config.suites)


def _judge(job: RedTeamJob) -> ChatModel | None:
    if job.config.judge == RULES:
        return None
    return open_chat_model(job.config.judge, model=job.config.judge_model, device=job.device)


def _transcript(
    config: RedTeamConfig,
    chat_model: ChatModel,
    attacks: Sequence[Attack],
    judge: ChatModel | None,
    work: Path,
    bar: Bar,
) -> Transcript:
    fingerprint = {
        "chat_model": chat_model.name,
        "max_new_tokens": config.max_new_tokens,
        "files": _file_stats(chat_model.name),
    }

    def answer(chunk: Sequence[Attack]) -> list[JsonObject]:
        prompts = [attack.messages for attack in chunk]
        answers = chat_model.generate(prompts, max_new_tokens=config.max_new_tokens)
        bar.advance(len(chunk))
        return [{"answer": text} for text in answers]

    cache = work / f"answers-{config_digest(fingerprint)[:16]}.jsonl"
    rows = cached_map(cache, attacks, lambda attack: attack.id, answer)
    return _judge_all(attacks, [row["answer"] for row in rows], judge)


def _file_stats(where: str) -> list[list[Any]]:
    """Sizes and times of a model folder's files, which change when another model is written there."""
    folder = Path(where)
    if not folder.is_dir():
        return []
    return [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in sorted(folder.iterdir()) if p.is_file()]


def _judge_all(
    attacks: Sequence[Attack], answers: Sequence[str | None], judge: ChatModel | None
) -> Transcript:
    """Rows with verdicts; an attack that does not fit into the context window has no answer and no verdict."""
    answered = [i for i, text in enumerate(answers) if text is not None]
    judged, texts = [attacks[i] for i in answered], [answers[i] or "" for i in answered]
    judgements = judge_by_model(judge, judged, texts) if judge else judge_by_rules(judged, texts)
    verdicts = dict(zip(answered, judgements, strict=True))
    rows = []
    for number, attack in enumerate(attacks):
        skipped = {"succeeded": None, "reaction": "skipped", "helpful": None}
        verdict = asdict(verdicts[number]) if number in verdicts else skipped
        row = attack.to_row()
        shown = {key: row[key] for key in ("id", "category", "kind", "wanted", "act", "messages")}
        rows.append(shown | {"answer": answers[number], **verdict})
    return rows


def _write(
    job: RedTeamJob,
    out: Path,
    overwrite: bool,
    results: JsonObject,
    attacks: Sequence[Attack],
    transcripts: dict[str, Transcript],
) -> None:
    folders = [Path(where) for where in (job.against, job.model) if where]
    lineage = Lineage(
        "red_team",
        job.config.model_dump(mode="json"),
        [folder for folder in dict.fromkeys(folders) if (folder / LINEAGE).is_file()],
        job.config.seed,
        {role: {name: category["success"] for name, category in figures.items()}
         for role, figures in results["categories"].items()},
    )  # fmt: skip
    with writing_artifact(out, lineage, overwrite) as folder:
        write_json_atomic(folder / RESULTS, results)
        _write_lines(folder / ATTACKS, [attack.to_row() for attack in attacks])
        for role, rows in transcripts.items():
            _write_lines(folder / f"transcript-{role}.jsonl", rows)
        write_text_atomic(folder / "report.html", render_red_team(results, transcripts))


def _write_lines(path: Path, rows: Sequence[JsonObject]) -> None:
    write_text_atomic(path, "".join(canonical_json(row) + "\n" for row in rows))
