"""What weights begin with where a draw is not the best that is known: values computed from the text beforehand."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {"begin_with_cooccurrence": "cooccurrence", "cooccurrence_vectors": "cooccurrence"},
)

__all__ = ["begin_with_cooccurrence", "cooccurrence_vectors"]
