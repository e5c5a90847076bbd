"""What another assistant can do with Parakit: see which models there are, describe and inspect them, generate, chat, search in
documents, evaluate, and build.

Everything is below one folder. Models are loaded in this process, the last ones kept; what takes minutes is a job, a process of
its own, whose state can be read later.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from parakit.api import load
from parakit.api_agents import search_in
from parakit.assistants.tools.config import ToolLimits
from parakit.assistants.tools.functions import function_tool, read_only
from parakit.assistants.tools.tool import ToolBox, ToolError
from parakit.common.files import JsonObject
from parakit.inference.loaded_model import Model
from parakit.serving.mcp.jobs import Jobs

INSTRUCTIONS = (
    "Parakit makes, measures and runs language models in one folder. Begin with list_models. What takes minutes returns a job;"
    " read it with job_status."
)
LIMITS = ToolLimits(tool_timeout=600.0, max_result_chars=50_000)
MAX_MODELS = 2  # in memory
MAX_LISTED = 500
JOB_SECONDS = 20.0  # that a call waits for a job


class ChatTurn(BaseModel):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class ParakitTools:
    """The functions, on the models and recipes below `folder`."""

    def __init__(self, folder: str | Path, device: str = "auto") -> None:
        self.folder, self.device = Path(folder).resolve(), device
        self.jobs = Jobs(self.folder)
        self._models: OrderedDict[Path, Model] = OrderedDict()

    def box(self) -> ToolBox:
        """Them as tools."""
        functions = (
            self.list_models,
            self.describe,
            self.generate,
            self.chat,
            self.next_tokens,
            self.search,
            self.evaluate,
            self.build,
            self.job_status,
            self.stop_job,
        )
        return ToolBox([function_tool(function) for function in functions], LIMITS)

    @read_only
    def list_models(self) -> list[str]:
        """The model folders, relative to Parakit's folder."""
        found = sorted(path.parent for path in self.folder.rglob("config.json") if _is_model(path.parent))
        return [str(path.relative_to(self.folder)) for path in found[:MAX_LISTED]]

    @read_only
    def describe(self, path: str) -> str:
        """Describe a folder of Parakit's (a model, corpus, tokenizer, evaluation, build): what it holds and how it was made.

        Args:
            path: the folder.
        """
        return self._output("show", str(self._below(path)), "--json")

    @read_only
    def generate(self, model: str, prompt: str, max_new_tokens: int = 100, temperature: float = 0.0) -> str:
        """Continue a text with a model.

        Args:
            model: a model folder, or the folder of a build.
            prompt: the text to continue.
            max_new_tokens: the length limit of the continuation.
            temperature: 0 is greedy.
        """
        found = self._model(model)
        return found.generate(prompt, max_new_tokens=max_new_tokens, temperature=temperature)

    @read_only
    def chat(
        self, model: str, messages: list[ChatTurn], max_new_tokens: int = 200, temperature: float = 0.0
    ) -> str:
        """The answer of a chat model to a conversation.

        Args:
            model: a model folder, or the folder of a build.
            messages: the turns so far; the last is the user's.
            max_new_tokens: the length limit of the answer.
            temperature: 0 is greedy.
        """
        rows = [one.model_dump() for one in messages]
        return self._model(model).chat(rows, max_new_tokens=max_new_tokens, temperature=temperature)

    @read_only
    def next_tokens(self, model: str, text: str, n_tokens: int = 10) -> list[JsonObject]:
        """The likeliest next tokens after a text, with their probabilities.

        Args:
            model: a model folder, or the folder of a build.
            text: what comes before.
            n_tokens: how many.
        """
        found = self._model(model)
        probabilities = found.logits(text)[-1].float().softmax(-1)
        top = probabilities.topk(min(max(n_tokens, 1), 100))
        return [
            {"token_id": token_id, "text": found.tokenizer.decode([token_id]), "probability": round(p, 6)}
            for p, token_id in zip(top.values.tolist(), top.indices.tolist(), strict=True)
        ]

    @read_only
    def search(self, index: str, query: str, n_passages: int = 5) -> list[JsonObject]:
        """The best passages of an index of documents for a question, with their places.

        Args:
            index: a folder that `parakit index` made.
            query: a question or key words.
            n_passages: how many.
        """
        found = search_in(self._below(index))(query, min(max(n_passages, 1), 50))
        return [{"place": place, "text": text} for place, text in found]

    @read_only
    def evaluate(
        self,
        model: str,
        text: list[str] | None = None,
        tasks: list[str] | None = None,
        suites: bool = False,
        n_items: int = 100,
    ) -> JsonObject:
        """Measure a model: bits per byte of text files, tasks, or the questions of the built-in world. A job.

        Args:
            model: a model folder, or the folder of a build.
            text: text files.
            tasks: Parakit's measures and lm-eval's tasks by name.
            suites: whether to ask the built-in suites.
            n_items: questions of each suite.
        """
        arguments = ["evaluate", str(self._below(model)), "--json"]
        if text:
            arguments += ["--text", *(str(self._below(path)) for path in text)]
        if tasks:
            arguments += ["--tasks", *map(_no_flag, tasks)]
        if suites:
            arguments += ["--suites", "--n-suite-items", str(n_items)]
        return self._job(arguments)

    def build(self, recipe: str, changes: list[str] | None = None) -> JsonObject:
        """Build a model from a recipe, or resume its build. A job; the build is written to builds/NAME.

        Args:
            recipe: a recipe file, YAML.
            changes: settings that replace those of the recipe, such as "pretrain.max_tokens=100000".
        """
        arguments = ["build", str(self._below(recipe))]
        for change in changes or ():
            arguments += ["--set", _no_flag(change)]
        return self._job(arguments)

    @read_only
    def job_status(self, job: str, wait_seconds: float = 0.0) -> JsonObject:
        """Whether a job runs, the end of its messages, and its output when it has ended.

        Args:
            job: its id.
            wait_seconds: how long to wait for its end, at most 300.
        """
        try:
            return self.jobs.wait(job, min(max(wait_seconds, 0.0), 300.0))
        except KeyError:
            raise ToolError(f"there is no job {job!r:.80}") from None

    def stop_job(self, job: str) -> str:
        """End a job.

        Args:
            job: its id.
        """
        try:
            self.jobs.stop(job)
        except KeyError:
            raise ToolError(f"there is no job {job!r:.80}") from None
        return "ended"

    def _below(self, path: str) -> Path:
        """The path, which has to be there, and below the folder."""
        found = (self.folder / path).resolve()
        if not found.is_relative_to(self.folder):
            raise ToolError(f"{path!r:.200} is outside the folder that may be used")
        if not found.exists():
            raise ToolError(f"{path!r:.200}: there is nothing of this name")
        return found

    def _model(self, path: str) -> Model:
        folder = self._below(path)
        if folder not in self._models:
            self._models[folder] = load(folder, device=self.device)
            if len(self._models) > MAX_MODELS:
                self._models.popitem(last=False)
        self._models.move_to_end(folder)
        return self._models[folder]

    def _job(self, arguments: list[str]) -> JsonObject:
        return self.jobs.wait(self.jobs.start(arguments), JOB_SECONDS)

    def _output(self, *arguments: str) -> str:
        """What a command prints that takes seconds; `ToolError` with its message where it fails."""
        state = self.jobs.wait(self.jobs.start(arguments), 120.0)
        if state["state"] != "finished":
            raise ToolError("\n".join(state["messages"]) or json.dumps(state))
        return str(state["output"])


def _is_model(folder: Path) -> bool:
    return any(folder.glob("*.safetensors"))


def _no_flag(text: str) -> str:
    """A value that a command does not take for a flag."""
    if text.startswith("-"):
        raise ToolError(f"{text!r:.80}: begins with a hyphen")
    return text
