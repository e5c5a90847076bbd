"""Text: documents and conversations, read, cleaned, deduplicated and split; and the built-in primer. Never
imports torch.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Conversation": "conversations",
        "Document": "documents",
        "Message": "conversations",
        "PrimerConfig": "config",
        "ReadReport": "report",
        "TextConfig": "config",
        "input_digest": "inputs",
        "iter_conversations": "conversation_sets",
        "iter_corpus": "corpus",
        "prepare_conversations": "conversation_sets",
        "prepare_corpus": "corpus",
        "read_conversations": "conversations",
        "read_documents": "readers",
        "split_of": "splits",
        "write_conversations": "conversations",
    },
)

__all__ = [
    "Conversation",
    "Document",
    "Message",
    "PrimerConfig",
    "ReadReport",
    "TextConfig",
    "input_digest",
    "iter_conversations",
    "iter_corpus",
    "prepare_conversations",
    "prepare_corpus",
    "read_conversations",
    "read_documents",
    "split_of",
    "write_conversations",
]
