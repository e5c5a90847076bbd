"""`parakit ask MODEL INDEX "..."`, and `parakit ask BUILD "..."` of a build with an index: an answer from one's own documents.
It goes to standard output with its citations, all else to standard error.
"""

import json
import os
from typing import Annotated

import tyro
from pydantic import Field

from parakit.assistants.retrieval.config import AskConfig
from parakit.cli.index import FUSED, RERANKED
from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import Needs, refuse_inert
from parakit.cli.rendering.documents.passages import citation_lines, context_lines
from parakit.common.errors import UserError
from parakit.common.progress import log

ALONE = Needs(
    ("rewrite",), lambda _: False, "a single question follows no other", "take parakit chat --documents INDEX"
)


class AskCommandConfig(AskConfig):
    """Answer questions from an index of documents, with citations that are checked against the passages."""

    model: tyro.conf.Positional[str] = Field(
        description="A chat model's folder, the folder of a build, or the URL of an OpenAI-compatible API."
    )
    index: tyro.conf.Positional[str] = Field(
        description="The folder of an index. It is left out where the model is a build with one of its own."
    )
    questions: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="QUESTION ...")] = (
        Field(description="One or more questions.")
    )
    model_name: str | None = Field(
        default=None, description="With a URL: the model's name there. Default: the first that it lists."
    )
    encoder: str | None = Field(
        default=None, description="The index's encoder, if it is no longer where it was."
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print each answer as one JSON object per line."
    )


def _index_and_questions(command: AskCommandConfig) -> tuple[str | None, tuple[str, ...]]:
    """The index, None for that of the build, and the questions."""
    from parakit.recipe.build_folder import build_index

    index, questions = command.index, command.questions
    is_path = os.path.isdir(index) or (questions and not any(map(str.isspace, index)))
    if build_index(command.model) and not is_path:
        return None, (index, *questions)
    if not questions:
        raise UserError("there is no question", f'parakit ask {command.model} {command.index} "..."')
    return index, questions


def main(argv: list[str]) -> int:
    """Run `parakit ask` with these arguments; 0 when every question is answered or refused."""
    command = parse_command(AskCommandConfig, argv, "parakit ask")
    refuse_inert(command, (RERANKED, FUSED, ALONE))
    from parakit.api_documents import document_assistant

    settings = {
        name: getattr(command, name) for name in AskConfig.model_fields if name in command.model_fields_set
    }
    index, questions = _index_and_questions(command)
    assistant = document_assistant(
        command.model,
        index,
        model_name=command.model_name,
        encoder=command.encoder,
        device=command.device,
        **settings,
    )
    for question in questions:
        answer = assistant.answer(question)
        if command.as_json:
            print(json.dumps(answer.to_json(), ensure_ascii=False))
            continue
        print(answer.text)
        for line in citation_lines(answer):
            print(line)
        for line in context_lines(answer):
            log(line)
    return 0
