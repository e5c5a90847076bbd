"""The stages of an assistant for documents: its index with a fitted threshold, and what the finished assistant answers.

Questions that fit the threshold are about other passages than those that measure: made ones are about what the training
conversations are made of, and of the user's own every other one. What a model wrote is on disk at once, so an interrupted
measurement continues.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from parakit.alignment.jsonl_cache import cached_map
from parakit.assistants.retrieval.asking import DocumentAssistant
from parakit.assistants.retrieval.config import AskConfig, IndexConfig
from parakit.assistants.retrieval.indexing import KIND, index_documents, settings_of, store_threshold
from parakit.assistants.retrieval.questions import IndexQuestion, made_questions, read_questions
from parakit.assistants.retrieval.search import DocumentIndex
from parakit.common.artifacts import Lineage, open_artifact, writing_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, write_json_atomic
from parakit.common.progress import OnProgress, log
from parakit.common.settings import config_digest
from parakit.inference.chat_models.chat_model import Messages
from parakit.inference.chat_models.local import LocalChatModel
from parakit.stages.documents.config import AssistantIndexConfig, IndexConversationsConfig
from parakit.stages.documents.measuring import measure_answers, measure_retrieval, measure_threshold
from parakit.stages.documents.training_data import TrainingDataConfig, write_training_data

ANSWERS = "answers"  # the kind of artifact
CHUNK = 16  # answers that are on disk before the next ones are begun
N_SAMPLES = 6  # of each kind, for the report


def make_assistant_index(config: AssistantIndexConfig, out: Path) -> Path:
    """Write the index `out`, or bring it up to date, and fit the threshold below which a question has no answer. Where there
    are too few questions, one line says so and the index has no threshold.
    """
    wanted = config.index_config()
    index_documents(wanted, out, overwrite=not _continues(out, wanted))
    index = DocumentIndex(out)
    threshold: JsonObject | None = None
    try:
        questions = own_questions(index, config, held_out=False)
        threshold = measure_threshold(index, questions, max_refused=config.max_refused).to_json()
    except UserError as error:
        log(f"index: no threshold: {error.message}")
    if threshold != index.threshold:
        store_threshold(out, threshold)
    return out


def own_questions(
    index: DocumentIndex, config: AssistantIndexConfig, *, held_out: bool
) -> list[IndexQuestion]:
    """The user's questions, or some that are made of the documents: `held_out` measure the finished assistant, the others
    fit the threshold.
    """
    passages = index.passages()
    if config.questions:
        return read_questions(config.questions, (one.source for one in passages))[int(held_out) :: 2]
    return made_questions(passages, config.n_questions, held_out=held_out)


def _usable_questions(index: DocumentIndex, config: AssistantIndexConfig) -> list[IndexQuestion]:
    """The questions that measure; none where none is made, or none has relevant documents."""
    try:
        questions = own_questions(index, config, held_out=True)
    except UserError as error:
        log(f"answers: not measured: {error.message}")
        return []
    if not any(one.relevant for one in questions):
        log("answers: not measured: no question has relevant documents")
        return []
    if not any(one.answers and one.relevant for one in questions):
        log("answers: only the search is measured: no question has an answer to compare with")
    return questions


def make_index_conversations(config: IndexConversationsConfig, index: Path, out: Path) -> Path:
    """Write the set of conversations `out` about the passages of `index` that are not held out."""
    names = ("wordings", "refusal_share", "max_questions")
    settings = TrainingDataConfig(**{name: getattr(config, name) for name in names})
    fraction = config.validation_fraction
    opened = DocumentIndex(index)
    return write_training_data(
        "conversations", opened, out, settings, overwrite=True, validation_fraction=fraction
    )


def measure_assistant(
    config: AssistantIndexConfig,
    index_path: Path,
    models: Mapping[str, Path],
    out: Path,
    work: Path,
    *,
    max_new_tokens: int,
    load: Callable[[Path], LocalChatModel] = LocalChatModel.load,
) -> Path:
    """Write the artifact `out`: how well the index finds documents, and for each model the shares of right answers, refusals
    and citations, with every answer in MODEL.jsonl. `work`: a folder for the answers of an interrupted measurement.
    Where there is nothing to measure with, one line says so and the figures are missing: the model is made by then.
    """
    index = DocumentIndex(index_path)
    questions = _usable_questions(index, config)
    settings = {"index": config.model_dump(mode="json"), "max_new_tokens": max_new_tokens}
    lineage = Lineage(ANSWERS, settings, [index_path, *models.values()])
    with writing_artifact(out, lineage, overwrite=True) as folder:
        results: JsonObject = {"retrieval": {}, "answers": {}}
        rows: list[JsonObject] = []
        if questions:
            results["retrieval"] = measure_retrieval(index, questions)
        for name, path in models.items() if any(one.answers and one.relevant for one in questions) else ():
            digest = open_artifact(path, verify=False).digest
            chat = StoredAnswers.of(load(path), work / f"{digest[:16]}.jsonl")
            assistant = DocumentAssistant(index, chat, AskConfig(max_new_tokens=max_new_tokens))
            rows = []
            results["answers"][name] = measure_answers(assistant, questions, rows)
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        results |= {"threshold": index.threshold, "samples": _samples(rows)}
        write_json_atomic(folder / "results.json", results)
        lineage.result = results
    shutil.rmtree(work, ignore_errors=True)
    return out


@dataclass(frozen=True)
class StoredAnswers(LocalChatModel):
    """A model whose answers are stored in a file, so that they are computed once."""

    cache: Path = Path()

    @classmethod
    def of(cls, model: LocalChatModel, cache: Path) -> StoredAnswers:
        """`model` with the answers that `cache` has of it."""
        return cls(model.model, model.tokenizer, model.name, cache)

    def generate(
        self,
        conversations: Sequence[Messages],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seeds: Sequence[int] | None = None,
        on_progress: OnProgress | None = None,
    ) -> list[str | None]:
        """As the model answers; what the file has is not computed."""
        plain = super().generate

        def id_of(place: int) -> str:
            messages = [one.to_row() for one in conversations[place]]
            seed = None if seeds is None or not temperature else seeds[place]
            return config_digest({"messages": messages, "settings": [max_new_tokens, temperature, seed]})

        def compute(places: Sequence[int]) -> list[JsonObject]:
            texts = plain(
                [conversations[place] for place in places],
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                seeds=None if seeds is None else [seeds[place] for place in places],
                on_progress=on_progress,
            )
            return [{"text": text} for text in texts]

        rows = cached_map(self.cache, range(len(conversations)), id_of, compute, CHUNK)
        return [row["text"] for row in rows]


def _continues(out: Path, wanted: IndexConfig) -> bool:
    """Whether the index that is there is brought up to date: it is of no documents that are not wanted."""
    if not out.exists():
        return False
    try:
        before = settings_of(open_artifact(out, KIND)).paths
    except UserError:  # it is not whole
        return False
    return set(before) <= {os.path.abspath(path) for path in wanted.paths}


def _samples(rows: Sequence[JsonObject]) -> list[JsonObject]:
    """Of the last model: some right answers, some wrong ones, and some to questions without an answer."""
    kinds = (True, False, None)
    return [row for kind in kinds for row in [one for one in rows if one["right"] is kind][:N_SAMPLES]]
