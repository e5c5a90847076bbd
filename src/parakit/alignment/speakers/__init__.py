"""Whoever answers: a model of ours, or any chat endpoint that speaks the OpenAI protocol. Target, judge or critic."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "EndpointConfig": "endpoint",
        "EndpointSpeaker": "endpoint",
        "OwnSpeaker": "own",
        "Speaker": "speaker",
        "open_speaker": "speaker",
    },
)

__all__ = ["EndpointConfig", "EndpointSpeaker", "OwnSpeaker", "Speaker", "open_speaker"]
