"""Documents, conversations, examples and preferences: read, cleaned, deduplicated, split, and kept as artifact folders.
Never imports torch.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Conversation": "conversations.conversation",
        "Document": "documents",
        "Message": "conversations.conversation",
        "TextConfig": "config",
        "iter_conversations": "conversations.sets",
        "iter_corpus": "corpus",
        "iter_examples": "examples",
        "prepare_corpus": "corpus",
        "prepare_examples": "examples",
        "read_conversations": "conversations.conversation",
        "read_examples": "examples",
    },
)

__all__ = [
    "Conversation",
    "Document",
    "Message",
    "TextConfig",
    "iter_conversations",
    "iter_corpus",
    "iter_examples",
    "prepare_corpus",
    "prepare_examples",
    "read_conversations",
    "read_examples",
]
