"""The Python API for documents: an index of them, and answers from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parakit.assistants.retrieval.asking import DocumentAnswer, DocumentAssistant
from parakit.assistants.retrieval.config import AskConfig, IndexConfig
from parakit.assistants.retrieval.indexing import index_documents as _index_documents
from parakit.assistants.retrieval.search import DocumentIndex
from parakit.common.devices import pick_device
from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Message
from parakit.inference.chat_models.chat_model import ChatModel
from parakit.inference.chat_models.loading import open_chat_model
from parakit.inference.chat_models.local import LocalChatModel
from parakit.inference.chat_models.locations import is_endpoint
from parakit.inference.loaded_model import Model
from parakit.recipe.build_folder import build_index, resolve_model_folder


def index_documents(
    paths: Sequence[str] | str,
    out: str | Path,
    *,
    overwrite: bool = False,
    device: str = "auto",
    **settings: Any,
) -> DocumentIndex:
    """Make an index of documents, or bring it up to date, and open it.

    `settings`: the fields of `IndexConfig`: encoder=FOLDER, "auto" or "none", passage_chars, overlap_chars, language, ...
    Raises `UserError` where no document has text.
    """
    given = (paths,) if isinstance(paths, str) else tuple(paths)
    config = IndexConfig.parse({"paths": given, **settings}, "index_documents")
    _index_documents(config, out, overwrite=overwrite, device=device)
    return DocumentIndex(out, device=device)


def answer(
    model: str | Path | Model,
    index: str | Path | DocumentIndex,
    question: str,
    *,
    history: Sequence[Message] = (),
    **settings: Any,
) -> DocumentAnswer:
    """Answer a question from an index; see `document_assistant` for the settings."""
    return document_assistant(model, index, **settings).answer(question, history)


def document_assistant(
    model: str | Path | Model,
    index: str | Path | DocumentIndex | None = None,
    *,
    model_name: str | None = None,
    encoder: str | Path | None = None,
    device: str = "auto",
    **settings: Any,
) -> DocumentAssistant:
    """A model with an index, for several questions. Without `index`, or with the folder of a build as the index, that of the
    build is taken.

    `settings`: the fields of `AskConfig`: n_passages, by, reranker, context_tokens, max_new_tokens, temperature, threshold,
    rewrite. `encoder`: the index's encoder, if it is no longer where it was. Raises `UserError` for a folder that is no
    index or no model that generates.
    """
    config = AskConfig.parse(settings, "ask")
    if not isinstance(index, DocumentIndex):
        index = DocumentIndex(_index_folder(model, index), encoder=encoder, device=device)
    return DocumentAssistant(index, _chat_model(model, model_name, device), config)


def _index_folder(model: str | Path | Model, index: str | Path | None) -> str | Path:
    if index is not None:
        return build_index(index) or index
    found = None if isinstance(model, Model) else build_index(model)
    if found is None:
        raise UserError(
            f"{model if isinstance(model, str | Path) else model.path}: is not a build with an index of documents",
            "name an index: parakit index DOCS --output INDEX",
        )
    return found


def _chat_model(model: str | Path | Model, name: str | None, device: str) -> ChatModel:
    if isinstance(model, Model):
        return LocalChatModel.wrap(model.network, model.tokenizer, str(model.path))
    if is_endpoint(str(model)):
        return open_chat_model(str(model), model=name)
    return LocalChatModel.load(resolve_model_folder(model), str(pick_device(device)))
