"""What each stage of a recipe that trains will take, before anything is read: sizes, steps, memory, time.

Tokens are those of the build's shards where they exist, else an estimate from the bytes of the files. Where the recipe has
a time, a stage's steps are those that its share of the time holds.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from parakit.alignment.config import AlignConfig, RLConfig
from parakit.checkpoints.gguf.conversion import read_gguf_config
from parakit.checkpoints.loading import read_config
from parakit.common.errors import UserError
from parakit.data.fetching.locations import is_on_network
from parakit.model.config import ModelConfig
from parakit.model.presets import config_for_size
from parakit.planning.choices import run_of, with_fitting_rows
from parakit.planning.machines import Machine
from parakit.planning.run_plan import plan_run
from parakit.planning.runs import RunMethod, RunSpec
from parakit.planning.step_time import step_seconds
from parakit.planning.stored_law import read_law
from parakit.planning.time import choose_size, speed_on
from parakit.recipe.build_time import BuildTime
from parakit.recipe.config import RecipeConfig
from parakit.recipe.documents.plans import answers_plan, index_conversation_tokens, index_plan
from parakit.recipe.stage_plan import StagePlan, file_bytes
from parakit.recipe.start_plan import time_of
from parakit.stages.config import LoraFinetuneConfig
from parakit.tokens.shards import TokenShards
from parakit.training.config import TrainingConfig

# Tokens of a document, a conversation and a preference of the primer, with its vocabulary.
PRIMER_DOCUMENT, PRIMER_CONVERSATION, PRIMER_PREFERENCE = 76, 40, 90
COUNTED_OF_CHAT = 0.5  # of the tokens of conversations, those of answers
TEXT_OF_ROWS = 0.8  # of the bytes of JSON lines
UNKNOWN_TOKENS = 1e6


@dataclass(frozen=True)
class _Planner:
    recipe: RecipeConfig
    machine: Machine
    folder: Path | None
    times: BuildTime | None
    prices: Mapping[str, float | None]

    def stage(
        self,
        name: str,
        config: ModelConfig,
        training: TrainingConfig,
        n_tokens: float,
        notes: list[str],
        **changes: Any,
    ) -> StagePlan:
        """The plan of one stage over `n_tokens` an epoch."""
        spec = self._spec(config, training, **changes)
        each = step_seconds(spec, self.machine).total
        if training.max_steps:
            total = float(training.max_steps * spec.n_tokens)
        elif given := getattr(training, "max_tokens", None):
            total = float(given)
        elif training.epochs or not self.times:
            total = (training.epochs or (1.0 if name == "pretrain" else 2.0)) * n_tokens
        else:
            total = self.times.share(name) / each * spec.n_tokens
            notes = [*notes, "as many steps as its share of the time holds"]
        return StagePlan(name, plan_run(spec, self.machine, max(1.0, total), **self.prices), notes)

    def _spec(self, config: ModelConfig, training: TrainingConfig, **changes: Any) -> RunSpec:
        batch_tokens = getattr(training, "batch_tokens", None)
        longest = min(config.max_seq_len, 2048, batch_tokens or 2048)  # a row is no longer than a batch
        settings: dict[str, Any] = {
            "seq_len": training.seq_len or longest,
            "micro_batch_size": training.micro_batch_size,
            "batch_tokens": batch_tokens,
            "optimizer": training.optimizer if "optimizer" in training.model_fields_set else None,
            "checkpointing": training.gradient_checkpointing == "on",
            "precision": self._precision(training),
        }
        spec = run_of(config, settings | changes)
        if rows := getattr(training, "batch_examples", None):
            spec = spec.changed(n_rows=rows, micro_batch_size=min(rows, training.micro_batch_size or rows))
        return spec if training.micro_batch_size else with_fitting_rows(spec, self.machine)

    def _precision(self, training: TrainingConfig) -> str:
        if training.precision != "auto":
            return training.precision
        return "float32" if self.machine.is_measured else self.machine.default_precision()

    def counted_tokens(self, stage: str) -> float | None:
        """Tokens of a stage's shards, where an earlier build has them."""
        if self.folder is not None and (self.folder / stage).is_dir():
            with contextlib.suppress(UserError, OSError):
                return float(TokenShards.open(self.folder / stage, "train").n_tokens)
        return None

    def n_tokens(self, stage: str, paths: tuple[str, ...], vocab_size: int, rows: bool) -> tuple[float, str]:
        """Tokens of a stage's data, and where the number comes from."""
        if (counted := self.counted_tokens(stage)) is not None:
            return counted, "counted in the build's shards"
        if not paths or any(map(is_on_network, paths)):
            return UNKNOWN_TOKENS, "its data is not here yet; a million tokens are assumed"
        n_bytes = sum(file_bytes(path) for path in paths) * (TEXT_OF_ROWS if rows else 1.0)
        return n_bytes / bytes_per_token(vocab_size), "tokens estimated from the bytes of the files"


def bytes_per_token(vocab_size: int) -> float:
    """Of English prose and a byte-level BPE that was trained on it: about 2 with 512 tokens, 3.2 with 4,096, 4.3 with
    32,768.
    """
    return max(1.0, 0.38 * math.log2(max(2, vocab_size)) - 1.4)


def plan_recipe(
    recipe: RecipeConfig,
    machine: Machine,
    folder: Path | None = None,
    prices: Mapping[str, float | None] | None = None,
) -> list[StagePlan]:
    """Every stage that trains, in order. `folder`: of an earlier build, whose shards are counted."""
    planner = _Planner(recipe, machine, folder, time_of(recipe), prices or {})
    vocab_size = recipe.tokenizer.vocab_size
    text = recipe.text
    if text.primer:
        n_tokens, source = float(PRIMER_DOCUMENT * text.primer.n_documents), "tokens of the primer"
    else:
        n_tokens, source = planner.n_tokens("shards", text.paths, vocab_size, rows=False)
    config, notes = _model(planner, vocab_size, n_tokens)
    documents = (index_plan(recipe), answers_plan(recipe)) if recipe.index else ()
    if config is None:
        return [StagePlan("model", None, notes), *documents]
    stages = [*documents[:1]]
    if not isinstance(recipe.pretrain, str):
        planned = planner.stage("pretrain", config, recipe.pretrain, n_tokens, [source, *notes])
        stages.append(_with_law(planned, recipe.scaling_law))
    if recipe.finetune is not None:
        stages.append(_finetune(planner, config))
    stages += [_align(planner, config, step) for step in recipe.align]
    if recipe.distill is not None:
        stages.append(_distill(planner, config, n_tokens))
    return [*stages, *documents[1:]]


def _with_law(planned: StagePlan, folder: str | None) -> StagePlan:
    """With the loss that the scaling law in `folder` predicts, where there is one, in place of a published one."""
    if folder is None or planned.plan is None:
        return planned
    law = read_law(folder)
    found = law.expected(planned.plan.spec.n_parameters, planned.plan.n_tokens)
    note = (
        f"expected loss {found.loss:.3f} {law.loss_unit} ({found.low:.3f} to {found.high:.3f}) by {found.law}"
    )
    return replace(planned, plan=replace(planned.plan, expected=found), notes=[*planned.notes, note])


def _model(planner: _Planner, vocab_size: int, n_tokens: float) -> tuple[ModelConfig | None, list[str]]:
    """The model that the recipe trains: read, of its size, or chosen for its time."""
    recipe, machine = planner.recipe, planner.machine
    brought = recipe.start.model if recipe.start else recipe.base_model
    if brought is not None:
        path = Path(brought)
        if (path / "config.json").is_file():
            return read_config(path), []
        if path.suffix == ".gguf" and path.is_file():
            accepted = recipe.start.accept_config if recipe.start else ()
            return read_gguf_config(path, accepted), []
        return None, [f"the shape of {brought} is known after it was imported"]
    shape = (vocab_size, recipe.max_seq_len, recipe.family, recipe.architecture)
    if recipe.size:
        return config_for_size(recipe.size, *shape).config, []
    precision = "float32" if machine.is_measured else machine.default_precision()
    speed = speed_on(machine, recipe.max_seq_len, precision=precision)
    first = planner.times.share(planner.times.stages[0]) if planner.times and planner.times.stages else 600.0
    return choose_size(first, speed, round(n_tokens), *shape).config, ["size chosen for the time"]


def _finetune(planner: _Planner, config: ModelConfig) -> StagePlan:
    recipe = planner.recipe
    assert recipe.finetune is not None
    data = recipe.conversations or recipe.examples
    primer = getattr(data, "primer", None)
    if primer is not None:
        n = getattr(primer, "n_conversations", None) or primer.n_examples
        n_tokens, source = float(n * PRIMER_CONVERSATION), "tokens of the primer"
    elif getattr(data, "from_index", None) and planner.counted_tokens("conversation_shards") is None:
        n_tokens, source = index_conversation_tokens(recipe, bytes_per_token(config.vocab_size))
    else:
        paths = tuple(getattr(data, "paths", ()))
        n_tokens, source = planner.n_tokens("conversation_shards", paths, config.vocab_size, rows=True)
    method: RunMethod = "lora" if isinstance(recipe.finetune, LoraFinetuneConfig) else "full"
    if recipe.finetune.method in ("prompt", "prefix"):
        method = "prompt"
    rank = getattr(recipe.finetune, "rank", 8)
    changes = {"method": method, "rank": rank, "counted_share": COUNTED_OF_CHAT}
    return planner.stage("finetune", config, recipe.finetune, n_tokens, [source], **changes)


def _align(planner: _Planner, config: ModelConfig, step: AlignConfig) -> StagePlan:
    recipe = planner.recipe
    if isinstance(step, RLConfig):
        seq_len = min(config.max_seq_len, 2 * step.max_new_tokens)
        n_prompts = UNKNOWN_TOKENS / seq_len
        if recipe.conversations and recipe.conversations.primer:
            n_prompts = recipe.conversations.primer.n_conversations
        n_tokens = n_prompts * step.group_size * seq_len
        changes = {
            "method": "grpo", "n_rows": step.n_rows, "micro_batch_size": step.micro_batch_size or step.n_rows,
            "n_new_tokens": step.max_new_tokens, "group_size": max(2, step.group_size), "passes": step.ppo_epochs,
            "seq_len": seq_len,
        }  # fmt: skip
        spec = run_of(config, {"method": "grpo", "precision": planner._precision(step), "seq_len": seq_len})
        spec = spec.changed(**changes)
        total = float(step.max_steps * spec.n_tokens) if step.max_steps else (step.epochs or 1.0) * n_tokens
        plan = plan_run(spec, planner.machine, total, **planner.prices)
        return StagePlan(step.method, plan, ["completions of the longest length are assumed"])
    if step.method in ("dpo", "reward"):
        primer = recipe.preferences.primer if recipe.preferences else None
        if primer is not None:
            n_tokens, source = float(primer.n_examples * PRIMER_PREFERENCE), "tokens of the primer"
        else:
            paths = recipe.preferences.paths if recipe.preferences else ()
            n_tokens, source = planner.n_tokens("preferences", paths, config.vocab_size, rows=True)
        seq_len = min(config.max_seq_len, step.seq_len or 256)
        return planner.stage(
            step.method,
            config,
            step,
            n_tokens,
            [source],
            method="dpo",
            seq_len=seq_len,
            counted_share=COUNTED_OF_CHAT,
        )
    return StagePlan(step.method, None, ["its steps follow from what the model answers"])


def _distill(planner: _Planner, config: ModelConfig, n_tokens: float) -> StagePlan:
    settings = planner.recipe.distill
    assert settings is not None
    student: ModelConfig = config
    if settings.size is not None:
        student = config_for_size(settings.size, config.vocab_size, config.max_seq_len, config.family).config
    elif hasattr(config, "replace") and config.family != "encoder-decoder":
        kept = settings.keep_layers or -(-config.n_layers // 2)
        student = config.replace(n_layers=kept)
    return planner.stage("distill", student, settings, n_tokens, [], method="distill", teacher=config)
