"""Opens a chat model by URL or by folder."""

from __future__ import annotations

from pathlib import Path

from parakit.inference.chat_models.chat_model import ChatModel
from parakit.inference.chat_models.local import LocalChatModel
from parakit.inference.chat_models.locations import is_endpoint
from parakit.inference.chat_models.openai import OpenAIChatConfig, OpenAIChatModel


def open_chat_model(location: str, *, model: str | None = None, device: str = "cpu") -> ChatModel:
    """A URL (http:// or https://) opens an endpoint, anything else a model folder on `device`. `model`: the model's name
    at the endpoint.
    """
    if is_endpoint(location):
        return OpenAIChatModel(OpenAIChatConfig(url=location, model=model))
    return LocalChatModel.load(Path(location), device)
