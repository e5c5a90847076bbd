"""The engine: continuous batching of many requests over a paged cache of bounded memory.

Names are imported on first use, so settings cost no torch.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Engine": "engine",
        "EngineConfig": "config",
        "Request": "requests",
        "RequestHandle": "requests",
    },
)

__all__ = ["Engine", "EngineConfig", "Request", "RequestHandle"]
