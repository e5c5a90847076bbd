"""What a build's summary has of an index of documents and of the answers from it."""

from __future__ import annotations

from pydantic import Field

from parakit.common.artifacts import Artifact
from parakit.common.files import JsonObject
from parakit.reports.summary_parts import StageSummary, SummaryPart

INDEX, ANSWERS = "index", "answers"  # the stages
_OF_INDEX = ("n_files", "n_passages", "skipped", "seconds")


class IndexSummary(StageSummary):
    """The index: its documents and passages, its encoder, and the threshold below which a question is refused."""

    n_files: int | None = None
    n_passages: int | None = None
    skipped: dict[str, int] = Field(default_factory=dict, description="What was left out, by reason.")
    encoder: str | None = None
    threshold: JsonObject | None = None


class AnswerCitation(SummaryPart):
    """What an answer cites: a stretch of a passage, letter by letter."""

    place: str
    quote: str
    number: int


class DocumentAnswerSample(SummaryPart):
    """A question with the answer from the documents, and that of the question alone. `right` is None where the documents do
    not answer it.
    """

    question: str
    expected: tuple[str, ...] = ()
    closed_book: str = ""
    answer: str
    right: bool | None = None
    refused: str | None = None
    citations: tuple[AnswerCitation, ...] = ()


class AnswersSummary(StageSummary):
    """What the models answer from the index: figures of each kind of search and of each model, with 95 % intervals."""

    retrieval: JsonObject = Field(default_factory=dict)
    answers: dict[str, JsonObject] = Field(default_factory=dict, description="The figures by model.")
    threshold: JsonObject | None = None
    samples: tuple[DocumentAnswerSample, ...] = ()


def index_figures(artifact: Artifact) -> JsonObject:
    """The figures of an index, from its lineage."""
    result, config = artifact.lineage["result"], artifact.lineage["config"]
    encoder = config.get("encoder_record")
    figures: JsonObject = {name: result[name] for name in _OF_INDEX if name in result}
    return figures | {"encoder": encoder and encoder["path"], "threshold": config.get("threshold")}
