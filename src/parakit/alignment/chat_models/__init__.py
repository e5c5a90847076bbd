"""Whoever answers: a model of ours, or any chat endpoint that speaks the OpenAI protocol. Target, judge or critic."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "EndpointConfig": "openai",
        "EndpointSpeaker": "openai",
        "OwnSpeaker": "local",
        "Speaker": "chat_model",
        "open_speaker": "chat_model",
    },
)

__all__ = ["EndpointConfig", "EndpointSpeaker", "OwnSpeaker", "Speaker", "open_speaker"]
