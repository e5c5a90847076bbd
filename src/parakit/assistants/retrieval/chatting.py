"""A chat whose answers come from an index: each question goes out with passages, the history stays without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parakit.assistants.retrieval.asking import DocumentAnswer, DocumentAssistant, PreparedQuestion
from parakit.data.conversations.conversation import Message
from parakit.inference.chat import PreparedTurn


@dataclass
class DocumentChat:
    """`prepare` is that of a `ChatSession`; `finish` checks the citations of what the model then wrote."""

    assistant: DocumentAssistant
    last: PreparedQuestion | None = None

    def prepare(self, messages: Sequence[Message]) -> PreparedTurn:
        """The conversation to send for the last message, or the refusal."""
        prepared = self.assistant.prepare(messages[-1].content, messages[:-1])
        self.last = prepared
        if prepared.context is None:
            return PreparedTurn(answer=self.assistant.finish(prepared, "").text)
        return PreparedTurn(prepared.context.messages)

    def finish(self, written: str) -> DocumentAnswer:
        """The answer to the last question with its checked citations."""
        assert self.last is not None, "nothing was answered"
        return self.assistant.finish(self.last, written)
