"""What a judging run judges: names of the models, their answers from files or written now, and people's votes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from parakit.alignment.jsonl_cache import cached_map
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import Bar, progress
from parakit.common.settings import config_digest
from parakit.data.readers.rows import RECORD_SUFFIXES
from parakit.evaluation.judging.config import JudgeConfig
from parakit.evaluation.judging.inputs import (
    AnswerRows,
    GradeVote,
    Question,
    Vote,
    read_answers,
    read_grade_votes,
    read_questions,
    read_votes,
)
from parakit.evaluation.results import digest
from parakit.inference.chat_models.loading import open_chat_model
from parakit.inference.chat_models.locations import is_endpoint

CHUNK = 8  # what is kept together: an endpoint that fails loses no more

AnswersByModel = dict[str, dict[str, str | None]]
"""By model, by the prompt's id; None where the prompt does not fit in the model's context window."""


@dataclass(frozen=True)
class JudgeJob:
    """Models (folders or URLs) that answer `prompts`, or files of their `answers`; the judge, a folder or a URL; people's
    `votes`.
    """

    judge: str
    config: JudgeConfig
    models: tuple[str, ...] = ()
    prompts: str | None = None
    answers: tuple[str, ...] = ()
    votes: str | None = None
    device: str = "cpu"


def check_job(job: JudgeJob) -> None:
    """`UserError` for settings that contradict each other or would do nothing."""
    if bool(job.models) == bool(job.answers):
        raise UserError(
            "name either --models, which answer the prompts, or files of --answers",
            "parakit judge --models A B --prompts FILE --judge JUDGE --output FOLDER",
        )
    if job.models and job.prompts is None:
        raise UserError("the models have nothing to answer", "name a file with --prompts")
    if job.answers and "max_new_tokens" in job.config.model_fields_set:
        raise UserError(
            f"max_new_tokens = {job.config.max_new_tokens} has no effect: it is of answers that models write, and these"
            " are finished",
            "remove it",
        )
    if job.config.judge_model and not is_endpoint(job.judge):
        raise UserError(
            f"judge_model = {job.config.judge_model} has no effect: it names a model at a URL, and the judge is {job.judge}",
            "give the URL with --judge",
        )


def short_names(locations: Sequence[str]) -> dict[str, str]:
    """A name for each location, by which a file can be called too: the last part of its path without the ending of a file,
    or as many parts as tell it from the others. `UserError` for one that is named twice.
    """
    if len(set(locations)) < len(locations):
        twice = next(where for where in locations if locations.count(where) > 1)
        raise UserError(f"{twice} is named twice", "a model cannot be compared with itself")
    parts = [_parts(where) for where in locations]
    for n in range(1, max(map(len, parts), default=0) + 1):
        names = ["-".join(one[-n:]) for one in parts]
        if len(set(names)) == len(names):
            return dict(zip(names, locations, strict=True))
    return {f"{i}-{one[-1]}": where for i, (one, where) in enumerate(zip(parts, locations, strict=True), 1)}


def _parts(where: str) -> list[str]:
    if is_endpoint(where):
        return [re.sub(r"[^\w.]+", "-", where.partition("://")[2]).strip("-")]
    path = Path(os.path.abspath(where))
    return [*path.parts[1:-1], path.stem if path.suffix in RECORD_SUFFIXES else path.name]


def read_all_votes(job: JudgeJob, names: Sequence[str]) -> tuple[list[Vote], list[GradeVote]]:
    """Votes on pairs, and on grades; only those of this kind of judging are there."""
    if job.votes is None:
        return [], []
    if job.config.kind == "pairwise":
        return read_votes(job.votes, names), []
    return [], read_grade_votes(job.votes, names)


def answers_from_files(job: JudgeJob, names: Mapping[str, str]) -> tuple[list[Question], AnswersByModel]:
    read = {name: read_answers(path) for name, path in names.items()}
    questions = _common_questions(read) if job.prompts is None else read_questions(job.prompts)
    questions = questions[: job.config.limit]
    answers: AnswersByModel = {
        name: {i: text for i, (_, text) in rows.items()} for name, rows in read.items()
    }
    for name, found in answers.items():
        if not any(question.id in found for question in questions):
            raise UserError(
                f"{names[name]}: answers none of the {len(questions)} prompts",
                'give prompts and answers the same "id", or the same "prompt"; or name the prompts with --prompts',
            )
    return questions, answers


def _common_questions(read: Mapping[str, AnswerRows]) -> list[Question]:
    """The prompts in files of answers, in their order."""
    found: dict[str, Question] = {}
    for name, rows in read.items():
        for prompt_id, (question, _) in rows.items():
            if question is not None and found.setdefault(prompt_id, question) != question:
                raise UserError(
                    f"{name}: the prompt {prompt_id!r} is another one than in the answers before",
                    "give different prompts different ids",
                )
    return list(found.values())


def answers_from_models(
    job: JudgeJob, names: Mapping[str, str], work: Path
) -> tuple[list[Question], AnswersByModel]:
    if job.prompts is None:
        raise UserError("models have nothing to answer", "name a file with --prompts")
    questions = read_questions(job.prompts)[: job.config.limit]
    answers: AnswersByModel = {}
    with progress("answer", len(questions) * len(names), "answers") as bar:
        for name, where in names.items():
            answers[name] = _answer(job, where, questions, work, bar)
    return questions, answers


def _answer(
    job: JudgeJob, where: str, questions: Sequence[Question], work: Path, bar: Bar
) -> dict[str, str | None]:
    model = open_chat_model(where, device=job.device)
    fingerprint = {"model": model.name, "n": job.config.max_new_tokens, "files": file_stats(where)}

    def answer(chunk: Sequence[Question]) -> list[JsonObject]:
        texts = model.generate([one.messages for one in chunk], max_new_tokens=job.config.max_new_tokens)
        bar.advance(len(chunk))
        return [{"answer": text} for text in texts]

    cache = work / f"answers-{config_digest(fingerprint)[:16]}.jsonl"
    rows = cached_map(
        cache, questions, lambda one: digest([one.id, one.text]), answer, chunk_size=chunk_size(where)
    )
    return {question.id: row["answer"] for question, row in zip(questions, rows, strict=True)}


def chunk_size(where: str) -> int:
    """Answers or verdicts that are kept together: few of an endpoint, which may fail; as many as make good batches of a
    model.
    """
    return CHUNK if is_endpoint(where) else 8 * CHUNK


def file_stats(where: str) -> list[list[object]]:
    """Sizes and times of a model folder's files, which change when another model is written there."""
    folder = Path(where)
    if is_endpoint(where) or not folder.is_dir():
        return []
    return [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in sorted(folder.iterdir()) if p.is_file()]
