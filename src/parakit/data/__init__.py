"""Text: documents, conversations and examples of tasks, read, cleaned, deduplicated and split; and the built-in
primer. Never imports torch.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Conversation": "conversations.conversation",
        "Document": "documents",
        "Message": "conversations.conversation",
        "PrimerConfig": "config",
        "ReadReport": "read_report",
        "TextConfig": "config",
        "load_examples_report": "examples",
        "input_digest": "readers.inputs",
        "iter_conversations": "conversations.sets",
        "iter_corpus": "corpus",
        "iter_examples": "examples",
        "prepare_conversations": "conversations.sets",
        "prepare_corpus": "corpus",
        "prepare_examples": "examples",
        "read_conversations": "conversations.conversation",
        "read_documents": "readers.files",
        "read_examples": "examples",
        "split_of": "splits",
        "write_conversations": "conversations.conversation",
    },
)

__all__ = [
    "Conversation",
    "Document",
    "Message",
    "PrimerConfig",
    "ReadReport",
    "TextConfig",
    "load_examples_report",
    "input_digest",
    "iter_conversations",
    "iter_corpus",
    "iter_examples",
    "prepare_conversations",
    "prepare_corpus",
    "prepare_examples",
    "read_conversations",
    "read_documents",
    "read_examples",
    "split_of",
    "write_conversations",
]
