"""A judging run: models answer prompts, a judge compares or grades the answers, and an artifact is written.

The folder (kind "judging") holds `results.json`, `verdicts.jsonl` and `report.html`; of grades also an evaluation folder
for each model, `evaluations/MODEL`. Answers and verdicts are cached next to it, so a run that was
interrupted, because an endpoint failed for example, resumes where it stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from parakit.alignment.jsonl_cache import cached_map
from parakit.checkpoints.loading import load_model
from parakit.common.artifacts import LINEAGE, Lineage, resumable_output, writing_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, write_json_atomic, write_text_atomic
from parakit.common.progress import progress
from parakit.common.settings import canonical_json, config_digest
from parakit.evaluation.judging.config import JudgeConfig
from parakit.evaluation.judging.inputs import (
    GradeVote,
    Question,
    Vote,
    require_known_prompts,
)
from parakit.evaluation.judging.judges import ChatJudge, GradedAnswer, Judge, RewardJudge
from parakit.evaluation.judging.prompts import TEMPLATES
from parakit.evaluation.judging.summary import JudgingResult, graded_protocol, graded_result, pairwise_result
from parakit.evaluation.judging.verdicts import Duel, compare_duels, make_duels, verdict_row
from parakit.evaluation.results import Item, write_items
from parakit.inference.chat_models.loading import open_chat_model
from parakit.inference.chat_models.local import LocalChatModel
from parakit.inference.chat_models.locations import is_endpoint
from parakit.model.heads import RewardModel
from parakit.reports.judging import render_judging
from parakit.stages.judging.sources import (
    AnswersByModel,
    JudgeJob,
    answers_from_files,
    answers_from_models,
    check_job,
    chunk_size,
    file_stats,
    read_all_votes,
    short_names,
)

RESULTS, VERDICTS, EVALUATIONS = "results.json", "verdicts.jsonl", "evaluations"
BENCHMARK = "judge"
MAX_UNJUDGED = 0.5


def judge_models(job: JudgeJob, out: Path, overwrite: bool = False) -> JsonObject:
    """Answer, judge, and write the artifact folder `out`; returns the content of `results.json`."""
    with resumable_output(out, overwrite=overwrite) as work:
        return _judge_models(job, out, work, overwrite)


def _judge_models(job: JudgeJob, out: Path, work: Path, overwrite: bool) -> JsonObject:
    check_job(job)
    names = short_names(job.models or job.answers)
    least = 2 if job.config.kind == "pairwise" else 1
    if len(names) < least:
        raise UserError(
            f"{len(names)} model{'s' * (len(names) != 1)} to judge, and {job.config.kind} judging needs {least} or more",
            "name another with --models or --answers" + (", or use --kind graded" if names else ""),
        )
    votes = read_all_votes(job, list(names))
    questions, answers = (
        answers_from_files(job, names) if job.answers else answers_from_models(job, names, work)
    )
    if job.votes is not None:
        require_known_prompts(job.votes, (*votes[0], *votes[1]), [question.id for question in questions])
    judge = open_judge(job.judge, job.config, job.device)
    cache = work / f"verdicts-{config_digest(_fingerprint(job, judge))[:16]}.jsonl"
    if job.config.kind == "pairwise":
        found = _run_pairwise(job, judge, questions, answers, votes[0], cache)
    else:
        found = _run_graded(job, judge, questions, answers, votes[1], cache)
    n_verdicts, n_unjudged = found.figures["n_verdicts"], found.figures["n_unjudged"]
    if n_unjudged > MAX_UNJUDGED * (n_verdicts + n_unjudged):
        raise UserError(
            f"the judge {judge.name} gave no verdict on {n_unjudged} of {n_verdicts + n_unjudged}",
            f"choose another judge or shorten the answers; the verdicts are in {cache}",
        )
    shown = {"kind": job.config.kind, "judge": judge.name, "criterion": job.config.criterion}
    results = shown | {"models": names, "n_prompts": len(questions)} | found.figures
    _write(job, out, overwrite, results, found)
    return results


def open_judge(location: str, config: JudgeConfig, device: str = "cpu") -> Judge:
    """A judge by URL or folder. `UserError` for a model that neither chats nor rewards, or has no chat template."""
    if is_endpoint(location):
        return ChatJudge(open_chat_model(location, model=config.judge_model), config.criterion)
    model, tokenizer = load_model(Path(location), device)
    if tokenizer is None or tokenizer.chat_template is None:
        raise UserError(
            f"the judge {location} has no {'tokenizer' if tokenizer is None else 'chat template'}, and a judge"
            " is given its task as a conversation",
            "choose a chat-tuned model as judge, or tune it for chat: parakit finetune",
        )
    if isinstance(model, RewardModel):
        return RewardJudge(model, tokenizer, location)
    return ChatJudge(LocalChatModel.wrap(model, tokenizer, location), config.criterion)


def _run_pairwise(
    job: JudgeJob,
    judge: Judge,
    questions: Sequence[Question],
    answers: AnswersByModel,
    votes: Sequence[Vote],
    cache: Path,
) -> JudgingResult:
    duels, n_missing = make_duels(questions, answers)
    with progress("judge", len(duels), "pairs") as bar:

        def compare(chunk: Sequence[Duel]) -> list[JsonObject]:
            rows = compare_duels(judge, chunk)
            _require_some(job, judge, [row for one, row in zip(chunk, rows, strict=True) if not one.is_equal])
            bar.advance(len(chunk))
            return rows

        found = cached_map(
            cache, duels, lambda duel: duel.content_id, compare, chunk_size=chunk_size(job.judge)
        )
    rows = [verdict_row(duel, row["scores"]) for duel, row in zip(duels, found, strict=True)]
    return pairwise_result(rows, list(answers), n_missing, votes, job.config.seed)


def _run_graded(
    job: JudgeJob,
    judge: Judge,
    questions: Sequence[Question],
    answers: AnswersByModel,
    votes: Sequence[GradeVote],
    cache: Path,
) -> JudgingResult:
    graded = [
        (name, GradedAnswer(question, text))
        for name, texts in answers.items()
        for question in questions
        if (text := texts.get(question.id)) is not None
    ]
    with progress("judge", len(graded), "answers") as bar:

        def grade(chunk: Sequence[tuple[str, GradedAnswer]]) -> list[JsonObject]:
            rows = [{"scores": scores} for scores in judge.grade([one for _, one in chunk])]
            _require_some(job, judge, rows)
            bar.advance(len(chunk))
            return rows

        found = cached_map(
            cache, graded, lambda one: one[1].content_id, grade, chunk_size=chunk_size(job.judge)
        )
    protocol = graded_protocol(questions, judge.name, job.config)
    n_missing = len(questions) * len(answers) - len(graded)
    scores = [row["scores"] for row in found]
    return graded_result(graded, scores, protocol, n_missing, votes, job.config.seed)


def _require_some(job: JudgeJob, judge: Judge, rows: Sequence[JsonObject]) -> None:
    """`UserError` for an endpoint none of whose replies is a verdict: it would cost time or money to go on."""
    if is_endpoint(job.judge) and len(rows) > 1 and all(row["scores"] is None for row in rows):
        raise UserError(
            f"the judge {judge.name} gave no verdict on {len(rows)} in a row: its replies begin with none of the"
            f" {'letters A, B and C' if job.config.kind == 'pairwise' else 'digits 1 to 5'}",
            "choose another judge, one that follows instructions; verdicts so far are kept",
        )


def _fingerprint(job: JudgeJob, judge: Judge) -> JsonObject:
    return {
        "judge": judge.name,
        "kind": job.config.kind,
        "criterion": job.config.criterion,
        "template": TEMPLATES[job.config.kind],
        "files": file_stats(job.judge),
    }


def _write(job: JudgeJob, out: Path, overwrite: bool, results: JsonObject, found: JudgingResult) -> None:
    figures = {key: value for key, value in results.items() if key != "benchmarks"}
    lineage = _lineage(job, "judging", (*job.models, job.judge), figures)
    with writing_artifact(out, lineage, overwrite) as folder:
        write_json_atomic(folder / RESULTS, results)
        lines = "".join(canonical_json(row) + "\n" for row in found.rows)
        write_text_atomic(folder / VERDICTS, lines)
        for name, items in found.items.items():
            _write_evaluation(job, folder / EVALUATIONS / name, results, name, items)
        write_text_atomic(folder / "report.html", render_judging(results, found.rows))


def _write_evaluation(
    job: JudgeJob, place: Path, results: JsonObject, name: str, items: Sequence[Item]
) -> None:
    """A graded model's result as an evaluation folder, which `parakit compare` reads."""
    location = results["models"][name]
    own = {"model": {"path": location}, "loss": {}, "suites": {}, "examples": None}
    own["benchmarks"] = {BENCHMARK: results["benchmarks"][name]}
    with writing_artifact(place, _lineage(job, "evaluation", (location, job.judge), own)) as folder:
        write_json_atomic(folder / RESULTS, own)
        write_items(folder, BENCHMARK, items)


def _lineage(job: JudgeJob, kind: str, locations: Sequence[str], result: JsonObject) -> Lineage:
    folders = dict.fromkeys(Path(where) for where in locations if not is_endpoint(where))
    parents: list[str | Path] = [folder for folder in folders if (folder / LINEAGE).is_file()]
    return Lineage(kind, job.config.model_dump(mode="json"), parents, job.config.seed, result)
