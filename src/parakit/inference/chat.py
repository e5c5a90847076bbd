"""A conversation with a model: history, system prompt, the context window, and `/` commands.

The session knows no terminal: `handle` takes a line and returns what to say, as a notice or as pieces of
an answer. A conversation that outgrows the context window is refused, or loses its oldest turns where
that was asked for, and then it says which. History itself is never cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from parakit.common.errors import UserError
from parakit.common.seeds import derive_seed
from parakit.common.settings import closest_match
from parakit.inference.chat_files import Message, load_messages, save_messages
from parakit.inference.config import ChatConfig, SamplingConfig
from parakit.inference.generation.text import Completion, CompletionStream, prompt_ids, stream
from parakit.model.adapters import AdapterSet
from parakit.model.heads import LanguageModel
from parakit.tokens.tokenizer.tokenizer import Tokenizer

COMMANDS = {
    "help": "what the commands do",
    "system": "TEXT  tell the model something before the conversation; without TEXT, show it",
    "reset": "forget the conversation; the system prompt stays",
    "undo": "take back your last message and its answer",
    "retry": "let the model answer your last message again",
    "save": "FILE  write the conversation as a line of JSON, as `parakit finetune` reads it",
    "load": "FILE  go on with a saved conversation",
    "temperature": "NUMBER  how freely answers are drawn; 0 is greedy; without NUMBER, show it",
    "adapter": "NAME  speak with another adapter, or as the base; without NAME, list them",
    "stats": "tokens, context window and speed",
    "quit": "leave",
}
BASE = "base"  # what `/adapter` calls the model without any


@dataclass(frozen=True)
class Reply:
    """What a line brought: something to tell the user, an answer that is still to be spoken, or the end."""

    notice: str = ""
    answer: Iterator[str] | None = None
    quit: bool = False


class ChatSession:
    """One conversation. `messages` holds every turn but the system prompt, in the order they were said."""

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        config: ChatConfig | None = None,
        adapters: AdapterSet | None = None,
    ) -> None:
        config = config or ChatConfig()
        self.model, self.tokenizer, self.adapters = model, tokenizer, adapters
        self.system: str = config.system
        self.when_full = config.when_full
        self.sampling: SamplingConfig = config.sampling
        self.messages: list[Message] = []
        self.last: Completion | None = None
        self.n_answers, self.n_tokens, self.seconds = 0, 0, 0.0
        self._n_left_out = 0
        self._own_file: str | None = None

    def handle(self, line: str) -> Reply:
        """Take one line: a `/` command, or a message (`//` starts a message with a slash).

        Raises `UserError` for a command or value that is not known, and for a message that the context
        window cannot hold; the conversation is then as before.
        """
        line = line.strip()
        if not line.startswith("/") or line.startswith("//"):
            return self.say(line.removeprefix("/")) if line else Reply()
        name, _, argument = line[1:].partition(" ")
        name = {"exit": "quit", "?": "help"}.get(name, name)
        if name not in COMMANDS:
            close = closest_match(name, COMMANDS)
            raise UserError(
                f"/{name}: no such command", f"did you mean /{close}?" if close else "/help lists them"
            )
        return getattr(self, f"_{name}")(argument.strip())

    def say(self, content: str) -> Reply:
        """Send a message. The turn enters the history as the answer is spoken."""
        return self._answer([*self.messages, Message("user", content)])

    # --- answering
    def _answer(self, messages: list[Message]) -> Reply:
        sent, notice = self._fit(messages)
        seed = self.sampling.seed
        if seed is not None:  # every answer has its own stream, so that /retry is a new attempt
            seed = derive_seed(seed, "answer", self.n_answers) % 2**63
        pieces = stream(self.model, self.tokenizer, sent, self.sampling, seed=seed)
        return Reply(notice, self._spoken(messages, pieces))

    def _spoken(self, messages: list[Message], pieces: CompletionStream) -> Iterator[str]:
        """Pass the pieces on; whatever was spoken, also when it is interrupted, is then part of the
        history.
        """
        try:
            yield from pieces
        finally:
            self.last = pieces.completion
            self.messages = [*messages, Message("assistant", self.last.text)]
            self.n_answers += 1
            self.n_tokens += self.last.n_tokens
            self.seconds += self.last.seconds

    def _with_system(self, messages: Sequence[Message]) -> list[Message]:
        return [Message("system", self.system), *messages] if self.system else list(messages)

    def _fit(self, messages: Sequence[Message]) -> tuple[list[Message], str]:
        """What is sent of `messages`, and a notice when more is left out than before.

        An answer is promised `max_new_tokens`, or a quarter of the window if that is less, before older
        turns are kept.
        """
        window = self.model.config.max_seq_len
        whole = self._with_system(messages)
        n_tokens = len(prompt_ids(self.tokenizer, whole))
        if self.when_full == "refuse":
            return (whole, "") if n_tokens < window else self._refuse(n_tokens)
        promised = min(self.sampling.max_new_tokens, max(window // 4, 1))
        starts = [i for i, message in enumerate(messages) if message.role == "user"]
        for start in starts:
            sent = self._with_system(messages[start:]) if start else whole
            n_tokens = len(prompt_ids(self.tokenizer, sent))
            if n_tokens + promised <= window or (start == starts[-1] and n_tokens < window):
                return sent, self._left_out(messages[:start])
        self._refuse(n_tokens)

    def _refuse(self, n_tokens: int) -> NoReturn:
        ways = "/undo or /reset" if self.messages else "shorten the message or the system prompt"
        if self.messages and self.when_full == "refuse":
            ways += ", or start with --when-full drop_oldest"
        raise UserError(
            f"the conversation has {n_tokens} tokens, and the model's context window holds"
            f" {self.model.config.max_seq_len}, answer included",
            ways,
        )

    def _left_out(self, messages: Sequence[Message]) -> str:
        """Say which turns are left out, when they are more than the last time."""
        n_before, self._n_left_out = self._n_left_out, len(messages)
        if len(messages) <= n_before:
            return ""
        quoted = ", ".join(_quote(message) for message in messages[n_before:])
        return f"the context window is full; left out from here on: {quoted}"

    # --- commands
    def _help(self, _: str) -> Reply:
        return Reply("\n".join(f"/{name:<12}{text}" for name, text in COMMANDS.items()))

    def _quit(self, _: str) -> Reply:
        return Reply(quit=True)

    def _system(self, text: str) -> Reply:
        if text:
            self.system = text
        return Reply(f"system: {self.system}" if self.system else "no system prompt; /system TEXT sets one")

    def _reset(self, _: str) -> Reply:
        self.messages, self._n_left_out, self.last = [], 0, None
        return Reply("the conversation is forgotten")

    def _undo(self, _: str) -> Reply:
        last = self._last_user("/undo")
        taken_back, self.messages = self.messages[last], self.messages[:last]
        self._n_left_out = min(self._n_left_out, last)
        return Reply(f"taken back: {_quote(taken_back)}")

    def _retry(self, _: str) -> Reply:
        return self._answer(self.messages[: self._last_user("/retry") + 1])

    def _save(self, path: str) -> Reply:
        if not path:
            raise UserError("/save: no file is named", "/save FILE")
        self._last_user("/save")
        save_messages(path, self._with_system(self.messages), overwrite=path == self._own_file)
        self._own_file = path
        return Reply(f"saved {len(self.messages)} messages to {path}")

    def _load(self, path: str) -> Reply:
        if not path:
            raise UserError("/load: no file is named", "/load FILE")
        messages = load_messages(path)
        self.system = messages[0].content if messages[0].role == "system" else ""
        self.messages = messages[1:] if messages[0].role == "system" else messages
        self._n_left_out, self.last, self._own_file = 0, None, path
        return Reply(f"loaded {len(self.messages)} messages from {path}")

    def _temperature(self, text: str) -> Reply:
        if text:
            self.sampling = self.sampling.replace(temperature=text)
        return Reply(f"temperature: {self.sampling.temperature:g}")

    def _adapter(self, name: str) -> Reply:
        adapters = self.adapters
        if adapters is None:
            raise UserError("/adapter: there are none", "start with --adapters FOLDER FOLDER")
        if name:
            adapters.use(None if name == BASE else name)
        now = adapters.current or BASE
        return Reply("\n".join(f"{'*' if one == now else ' '} {one}" for one in [BASE, *adapters.names]))

    def _stats(self, _: str) -> Reply:
        used = len(prompt_ids(self.tokenizer, self._with_system(self.messages[self._n_left_out :])))
        lines = [
            f"context window: {used} of {self.model.config.max_seq_len} tokens",
            f"messages: {len(self.messages)}, of which left out: {self._n_left_out}",
            f"answers: {self.n_answers}, {self.n_tokens} tokens",
        ]
        if self.seconds:
            lines.append(f"speed: {self.n_tokens / self.seconds:.1f} tokens/s")
        return Reply("\n".join(lines))

    def _last_user(self, command: str) -> int:
        """Where the last message of the user's stands."""
        for i in range(len(self.messages) - 1, -1, -1):
            if self.messages[i].role == "user":
                return i
        raise UserError(f"{command}: nothing has been said yet", "say something first")


def _quote(message: Message) -> str:
    text = " ".join(message.content.split())
    return f"{message.role} “{text if len(text) <= 40 else text[:39] + '…'}”"
