"""The model of an agent: a loaded one on Parakit's engine, whose calls are constrained to the tools' schemas, or an endpoint
with OpenAI's chat API, whose calls the tools check.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from parakit.assistants.agent.config import AgentConfig
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.seeds import derive_seed
from parakit.data.conversations.messages import Message, ToolCall
from parakit.inference.capabilities import require_capability
from parakit.inference.chat_models.openai import OpenAIChatModel
from parakit.inference.config import SamplingConfig
from parakit.inference.engine import Engine, EngineConfig
from parakit.inference.loaded_model import Model
from parakit.inference.tool_calls.parsing import new_call_id
from parakit.inference.tool_calls.syntax import call_syntax
from parakit.inference.tool_calls.tools import Tool, ToolChoice
from parakit.inference.tool_calls.turn import read_turn, turn_request


class WindowFull(UserError):
    """The conversation does not fit the context window any more."""


@dataclass(frozen=True)
class ModelTurn:
    """A turn of the model. `is_cut_off`: it reached the limit of its tokens."""

    message: Message
    n_prompt_tokens: int
    n_tokens: int
    is_cut_off: bool = False


class AgentModel(Protocol):
    """What takes turns."""

    @property
    def name(self) -> str: ...

    def turn(
        self, messages: Sequence[Message], tools: Sequence[Tool], max_new_tokens: int, config: AgentConfig
    ) -> ModelTurn:
        """The next turn. `WindowFull` where the conversation is longer than the model's window."""
        ...


class LocalAgentModel:
    """A model folder, or a loaded model."""

    def __init__(self, model: Model) -> None:
        self.model = model
        require_capability(model.network, "generate")
        if model.tokenizer.chat_template is None:
            raise UserError(f"{model.path}: has no chat template", "take a model that was tuned for chat")

    @property
    def name(self) -> str:
        return str(self.model.path)

    @property
    def has_tool_form(self) -> bool:
        """Whether the chat template writes tools and calls; otherwise the system prompt describes them."""
        return call_syntax(self.model.tokenizer).is_templates

    @cached_property
    def engine(self) -> Engine:
        """Of one row: a turn reads only what is new."""
        return Engine(self.model.network, self.model.tokenizer, EngineConfig(max_rows=1))

    def turn(
        self, messages: Sequence[Message], tools: Sequence[Tool], max_new_tokens: int, config: AgentConfig
    ) -> ModelTurn:
        tokenizer, window = self.model.tokenizer, self.model.network.config.max_seq_len
        seed = derive_seed(config.seed, "turn", len(messages)) % 2**63
        sampling = SamplingConfig(max_new_tokens=max_new_tokens, temperature=config.temperature)
        choice = ToolChoice("auto" if tools else "none", parallel=config.parallel)
        request = turn_request(tokenizer, messages, tools, choice, sampling, seed=seed)
        assert request.token_ids is not None
        n_prompt = len(request.token_ids)
        if n_prompt >= window:
            raise WindowFull(
                f"the conversation has {n_prompt:,} tokens with its tools, and the context window holds {window:,}",
                "fewer tools, a shorter question, a lower --max-result-chars, or a model with a longer window",
            )
        handle = self.engine.submit(request)
        self.engine.run()
        (completion,) = handle.completions
        turn = read_turn(tokenizer, tools, completion.token_ids)
        is_cut_off = turn.is_cut_off or completion.finish_reason == "length"
        return ModelTurn(turn.to_message(), n_prompt, completion.n_tokens, is_cut_off)


class EndpointAgentModel:
    """A model behind an endpoint. Its calls are those of the response; arguments are checked by the tools."""

    def __init__(self, endpoint: OpenAIChatModel) -> None:
        self.endpoint = endpoint

    @property
    def name(self) -> str:
        return self.endpoint.name

    def turn(
        self, messages: Sequence[Message], tools: Sequence[Tool], max_new_tokens: int, config: AgentConfig
    ) -> ModelTurn:
        body: JsonObject = {
            "model": self.endpoint.model,
            "messages": [_openai_row(message) for message in messages],
            "max_tokens": max_new_tokens,
            "temperature": config.temperature,
            "seed": derive_seed(config.seed, "turn", len(messages)) % 2**31,
        }
        if tools:
            body |= {"tools": [tool.to_row() for tool in tools], "parallel_tool_calls": config.parallel}
        answer = self.endpoint.request("/chat/completions", body, lambda reply: reply.read(16 * 2**20))
        return self._read(answer)

    def _read(self, answer: bytes) -> ModelTurn:
        try:
            reply = json.loads(answer)
            choice = reply["choices"][0]
            message, usage = choice["message"], reply.get("usage") or {}
            calls = tuple(_call(one) for one in message.get("tool_calls") or ())
            content = message.get("content")
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            raise self.endpoint.no_completion(answer[:2000].decode(errors="replace")) from None
        return ModelTurn(
            Message("assistant", content if isinstance(content, str) else "", tool_calls=calls),
            int(usage.get("prompt_tokens") or 0),
            int(usage.get("completion_tokens") or 0),
            choice.get("finish_reason") == "length",
        )


def _call(row: Any) -> ToolCall:
    """A call of a response; arguments that are no JSON object become one that no tool accepts."""
    function = row["function"]
    arguments = function.get("arguments") or "{}"
    try:
        parsed = json.loads(arguments) if isinstance(arguments, str) else arguments
        text = json.dumps(parsed) if isinstance(parsed, dict) else json.dumps({"invalid": arguments})
    except ValueError:
        text = json.dumps({"invalid": arguments})
    return ToolCall(str(function["name"]), text, str(row.get("id") or new_call_id()))


def _openai_row(message: Message) -> JsonObject:
    row: JsonObject = {"role": message.role, "content": message.content}
    if message.tool_calls:
        row["tool_calls"] = [
            {"id": one.id, "type": "function", "function": {"name": one.name, "arguments": one.arguments}}
            for one in message.tool_calls
        ]
    if message.role == "tool":
        row["tool_call_id"] = message.tool_call_id
    return row
