"""A conversation with a model: history, system prompt, the context window, and `/` commands.

The session does not know the terminal: `handle` takes a line and returns a notice, or an answer as pieces of text. A
conversation that outgrows the context window loses its oldest turns, which are named, or with `when_full="refuse"` is
refused. The history itself is never shortened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from parakit.common.errors import UserError
from parakit.common.files import write_text_atomic
from parakit.common.seeds import derive_seed
from parakit.common.settings import closest_match
from parakit.data.conversations.conversation import Conversation, Message, read_conversations
from parakit.inference.config import ChatConfig, SamplingConfig
from parakit.inference.engine import Engine, EngineConfig
from parakit.inference.generation.context_window import FittedPrompt, without_oldest_turns
from parakit.inference.generation.decoding import runs_on_engine
from parakit.inference.generation.drafts import Speculation
from parakit.inference.generation.text import Completion, prompt_ids, stream
from parakit.inference.tool_calls.reasoning import ReasoningDelta
from parakit.inference.tool_calls.replies import ReadReply, ReplyStream
from parakit.model.adapters import AdapterSet
from parakit.model.heads import LanguageModel
from parakit.tokens.tokenizer.tokenizer import Tokenizer

COMMANDS = {
    "help": "list the commands",
    "system": "TEXT  set the system prompt; without TEXT, show it",
    "reset": "clear the conversation; the system prompt stays",
    "undo": "remove your last message and its answer",
    "retry": "answer your last message again",
    "save": "FILE  write the conversation as a line of JSON, as `parakit finetune` reads it",
    "load": "FILE  continue a saved conversation",
    "temperature": "NUMBER  the randomness of answers; 0 is greedy; without NUMBER, show it",
    "adapter": "NAME  switch to another adapter, or to the base; without NAME, list them",
    "stats": "tokens, context window and speed",
    "quit": "leave",
}
BASE = "base"  # what `/adapter` calls the model without an adapter


@dataclass(frozen=True)
class Reply:
    """The result of a line: a notice to the user, the pieces of an answer and of the reasoning before it, or the end of the
    session.
    """

    notice: str = ""
    answer: Iterator[str | ReasoningDelta] | None = None
    quit: bool = False


@dataclass(frozen=True)
class PreparedTurn:
    """What is sent in place of a conversation, such as the last question with passages of documents; `answer`: what is
    answered without the model; `notice`: what the user is to know.
    """

    messages: Sequence[Message] = ()
    answer: str | None = None
    notice: str = ""


Prepare = Callable[[Sequence[Message]], PreparedTurn]


class ChatSession:
    """One conversation. `messages` holds every turn but the system prompt, in order. `prepare` is called with a
    conversation, system prompt included, before each answer; what it returns is sent and is no part of the history.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        config: ChatConfig | None = None,
        adapters: AdapterSet | None = None,
        drafts: Speculation | None = None,
        prepare: Prepare | None = None,
    ) -> None:
        config = config or ChatConfig()
        if tokenizer.chat_template is None:
            prompt_ids(tokenizer, [Message("user", "a")])  # raises, and says what the model can do instead
        self.model, self.tokenizer, self.adapters, self.drafts = model, tokenizer, adapters, drafts
        self.prepare = prepare
        self.system: str = config.system
        self.sampling: SamplingConfig = config.sampling.replace(when_full=config.when_full)
        self.messages: list[Message] = []
        self.last: Completion | None = None
        """The last answer, without its reasoning, which is in `last_reply`."""
        self.last_reply = ReadReply("")
        self.n_answers, self.n_tokens, self.seconds = 0, 0, 0.0
        self._n_dropped = 0
        self._saved_to: str | None = None
        self._engine: Engine | None = None

    def handle(self, line: str) -> Reply:
        """Process one line: a `/` command, or a message (`//` starts a message with a slash).

        Raises `UserError` for an unknown command or value, and for a message that the context window cannot hold; the
        conversation is then unchanged.
        """
        line = line.strip()
        if not line.startswith("/") or line.startswith("//"):
            return self.send(line.removeprefix("/")) if line else Reply()
        name, _, argument = line[1:].partition(" ")
        name = {"exit": "quit", "?": "help"}.get(name, name)
        if name not in COMMANDS:
            close = closest_match(name, COMMANDS)
            raise UserError(
                f"/{name}: no such command", f"did you mean /{close}?" if close else "/help lists them"
            )
        return getattr(self, f"_{name}")(argument.strip())

    def send(self, content: str) -> Reply:
        """Send a message. The turn enters the history while the answer is generated."""
        return self._answer([*self.messages, Message("user", content)])

    # --- answering
    def _answer(self, messages: list[Message]) -> Reply:
        turn = self.prepare(self._with_system(messages)) if self.prepare else None
        if turn is not None and turn.answer is not None:
            return Reply(turn.notice, self._given(messages, turn.answer))
        fitted, notice = self._fit(messages) if turn is None else self._prepared(turn)
        seed = self.sampling.seed
        if seed is not None:  # every answer has its own stream, so that /retry is a new attempt
            seed = derive_seed(seed, "answer", self.n_answers) % 2**63
        if self._engine is None and self.drafts is None and runs_on_engine(self.model):
            settings = EngineConfig(max_rows=1, cache_dtype=self.sampling.cache_dtype)
            self._engine = Engine(self.model, config=settings)  # a turn reads only what is new
        pieces = stream(
            self.model,
            self.tokenizer,
            fitted,
            self.sampling,
            seed=seed,
            engine=self._engine,
            speculation=self.drafts,
        )
        return Reply(notice, self._record(messages, ReplyStream(self.tokenizer, pieces, self.sampling.stop)))

    def _record(self, messages: list[Message], pieces: ReplyStream) -> Iterator[str | ReasoningDelta]:
        """Yield the pieces; what was generated, also up to an interruption, then joins the history."""
        try:
            yield from pieces
        finally:
            self.last, self.last_reply = pieces.completion, pieces.reply
            reasoning = self.last_reply.reasoning or None
            self.messages = [*messages, Message("assistant", self.last.text, reasoning_content=reasoning)]
            self.n_answers += 1
            self.n_tokens += self.last.n_tokens
            self.seconds += self.last.seconds

    def _given(self, messages: list[Message], answer: str) -> Iterator[str]:
        """An answer without the model, which joins the history too."""
        yield answer
        self.last, self.last_reply = Completion(answer, (), 0, "stop", 0.0), ReadReply(answer)
        self.messages = [*messages, Message("assistant", answer)]
        self.n_answers += 1

    def _prepared(self, turn: PreparedTurn) -> tuple[FittedPrompt, str]:
        fitted = FittedPrompt(prompt_ids(self.tokenizer, turn.messages))
        if len(fitted.token_ids) >= self.model.config.max_seq_len:
            self._refuse(len(fitted.token_ids))
        return fitted, turn.notice

    def _with_system(self, messages: Sequence[Message]) -> list[Message]:
        return [Message("system", self.system), *messages] if self.system else list(messages)

    def _fit(self, messages: Sequence[Message]) -> tuple[FittedPrompt, str]:
        """The ids of the part of `messages` to send, and a notice when more turns are dropped than before.

        `max_new_tokens`, or a quarter of the window if that is less, is reserved for the answer before older turns are
        kept.
        """
        window, full = self.model.config.max_seq_len, self._with_system(messages)
        drops = self.sampling.when_full == "drop_oldest"
        if drops:
            fitted = without_oldest_turns(self.tokenizer, full, self.sampling, window)
        else:
            fitted = FittedPrompt(prompt_ids(self.tokenizer, full))
        if len(fitted.token_ids) >= window:
            self._refuse(len(fitted.token_ids))
        return fitted, self._dropped_notice(messages[: fitted.n_dropped_messages]) if drops else ""

    def _refuse(self, n_tokens: int) -> NoReturn:
        ways = "/undo or /reset" if self.messages else "shorten the message or the system prompt"
        if self.messages and self.sampling.when_full == "refuse":
            ways += ", or start with --when-full drop_oldest, the default"
        raise UserError(
            f"the conversation has {n_tokens} tokens, and the model's context window holds"
            f" {self.model.config.max_seq_len}, answer included",
            ways,
        )

    def _dropped_notice(self, messages: Sequence[Message]) -> str:
        """Names the dropped turns when they are more than the last time."""
        n_before, self._n_dropped = self._n_dropped, len(messages)
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
        self.messages, self._n_dropped, self.last = [], 0, None
        return Reply("the conversation is cleared")

    def _undo(self, _: str) -> Reply:
        last = self._last_user("/undo")
        removed, self.messages = self.messages[last], self.messages[:last]
        self._n_dropped = min(self._n_dropped, last)
        return Reply(f"removed: {_quote(removed)}")

    def _retry(self, _: str) -> Reply:
        return self._answer(self.messages[: self._last_user("/retry") + 1])

    def _save(self, path: str) -> Reply:
        if not path:
            raise UserError("/save: no file is named", "/save FILE")
        self._last_user("/save")
        save_messages(path, self._with_system(self.messages), overwrite=path == self._saved_to)
        self._saved_to = path
        return Reply(f"saved {len(self.messages)} messages to {path}")

    def _load(self, path: str) -> Reply:
        if not path:
            raise UserError("/load: no file is named", "/load FILE")
        messages = load_messages(path)
        self.system = messages[0].content if messages[0].role == "system" else ""
        self.messages = messages[1:] if messages[0].role == "system" else messages
        self._n_dropped, self.last, self._saved_to = 0, None, path
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
        active = adapters.current or BASE
        names = [BASE, *adapters.names]
        return Reply("\n".join(f"{'*' if other == active else ' '} {other}" for other in names))

    def _stats(self, _: str) -> Reply:
        used = len(prompt_ids(self.tokenizer, self._with_system(self.messages[self._n_dropped :])))
        lines = [
            f"context window: {used} of {self.model.config.max_seq_len} tokens",
            f"messages: {len(self.messages)}, of which left out: {self._n_dropped}",
            f"answers: {self.n_answers}, {self.n_tokens} tokens",
        ]
        if self.seconds:
            lines.append(f"speed: {self.n_tokens / self.seconds:.1f} tokens/s")
        return Reply("\n".join(lines))

    def stats_of_last(self) -> str:
        """One line on the last answer: tokens read and written, time to the first token, speed, context in use."""
        last = self.last
        assert last is not None, "nothing was answered"
        used = last.n_prompt_tokens + last.n_tokens
        drafts = f"; {last.speculation}" if last.speculation else ""
        return (
            f"(read {last.n_prompt_tokens} tokens, first token after {last.seconds_to_first_token:.2f} s, then"
            f" {last.decode_tokens_per_second:.1f} tokens/s; {used} of {self.model.config.max_seq_len} tokens of context"
            f"{drafts})"
        )

    def _last_user(self, command: str) -> int:
        """The index of the user's last message."""
        for i in range(len(self.messages) - 1, -1, -1):
            if self.messages[i].role == "user":
                return i
        raise UserError(f"{command}: the conversation is empty", "send a message first")


def save_messages(path: str | Path, messages: Sequence[Message], *, overwrite: bool = False) -> None:
    """Write a conversation as one line of JSON, the format of tuning data.

    Raises `UserError` for a file that exists, unless `overwrite`, and for a missing folder.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise UserError(f"{path}: exists already", "choose another name")
    if not path.parent.is_dir():
        raise UserError(
            f"{path}: the folder {path.parent} does not exist", "make it first, or choose another folder"
        )
    write_text_atomic(path, Conversation(tuple(messages)).to_line())


def load_messages(path: str | Path) -> list[Message]:
    """Read the first conversation of a file; `UserError` naming the fault where there is none."""
    conversation = next(read_conversations(path), None)
    if conversation is None:
        raise UserError(
            f"{path}: holds no conversation",
            'a conversation is a line {"messages": [{"role": "user", "content": "..."}, ...]}',
        )
    return list(conversation.messages)


def _quote(message: Message) -> str:
    text = " ".join(message.content.split())
    return f"{message.role} “{text if len(text) <= 40 else text[:39] + '…'}”"
