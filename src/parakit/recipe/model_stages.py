"""The stages that make a model: pre-training on token shards, tuning on conversations.

Both draw up a plan, keep it beside their checkpoints (an interrupted run goes on under the plan it began
with), hand over to `run_training`, and write a model folder. A run's checkpoints stand in a folder named
after its settings and inputs, so a run with others begins anew and takes nothing from them.
"""

from __future__ import annotations

import contextlib
import shutil
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parakit.checkpoints.model_folder import load_model, save_model
from parakit.common.artifacts import LINEAGE, Lineage, open_artifact
from parakit.common.devices import pick_device
from parakit.common.files import disk_errors, read_json, write_json_atomic
from parakit.common.progress import say
from parakit.common.seeds import seed_everything
from parakit.common.settings import config_digest
from parakit.model.config import DecoderConfig
from parakit.model.heads import LanguageModel
from parakit.model.presets import SizePlan, size_dial
from parakit.planning.time import choose_size
from parakit.recipe.config import says_how_long
from parakit.recipe.model_card import model_card
from parakit.recipe.training_run import TrainingInputs, chart_rows, check_splits, describe_plan, run_training
from parakit.tokens.batches import BatchSource
from parakit.tokens.shards import TokenShards
from parakit.tokens.tokenizer import Tokenizer
from parakit.training import compilation
from parakit.training.config import TrainingConfig, TrainingPlan, resolve
from parakit.training.metrics import EVENTS, METRICS
from parakit.training.objectives import next_token
from parakit.training.session import TrainingSession
from parakit.training.throughput import measured_peak_flops

PLAN = "plan.json"
N_TIMED_STEPS = 8  # on a model that is thrown away, to learn how many steps fit into a time
STEP_OVERHEAD = 1.08  # batches, metrics, validation: a time budget is kept, not overrun
LEAST_SECONDS = 10.0  # trained even where the stages before used up the time
TUNED_LEARNING_RATE_SHARE = 0.25


@dataclass(frozen=True)
class Pretraining:
    """What a person says about pre-training a model. `seconds` is the time that it may take, of which
    `seconds_spent` are gone already; `size` a parameter count.
    """

    shards: Path
    tokenizer: Path
    work: Path
    training: TrainingConfig
    size: str | None = None
    seconds: float | None = None
    seconds_spent: float = 0.0
    max_seq_len: int = 256


def pretrain(job: Pretraining, out: Path, overwrite: bool = False) -> dict[str, Any]:
    """Train a decoder from scratch and write it to the model folder `out`; returns the figures."""
    tokenizer = Tokenizer.load(job.tokenizer)
    train, validation = TokenShards.open(job.shards, "train"), TokenShards.open(job.shards, "validation")
    check_splits(train, validation)
    said = {"size": job.size, "seconds": job.seconds, "max_seq_len": job.max_seq_len}
    with _workplace(job.work, job.training, [job.shards, job.tokenizer], said) as work:
        shape, plan = _kept_plan(work) or _plan_pretraining(job, tokenizer, train)
        _keep_plan(work, shape, plan)
        seed_everything(plan.seed)
        model = LanguageModel(shape)
        say(f"pretrain: {describe_plan(plan)}")
        inputs = TrainingInputs("pretrain", "pretrain", model, tokenizer, train, validation, plan, work)
        figures = run_training(inputs) | chart_rows(work)
        _save(model, tokenizer, out, overwrite, "pretrain", plan, [job.shards, job.tokenizer], figures, work)
    return figures


@dataclass(frozen=True)
class Finetuning:
    """What a person says about tuning `model` on conversation shards."""

    model: Path
    shards: Path
    work: Path
    training: TrainingConfig


def finetune(job: Finetuning, out: Path, overwrite: bool = False) -> dict[str, Any]:
    """Tune all weights on conversations, counting only what the assistant says and its end of turn."""
    device = pick_device(job.training.device)
    model, tokenizer = load_model(job.model, device)
    assert tokenizer is not None, "conversation shards cannot be made without the model's tokenizer"
    train, validation = TokenShards.open(job.shards, "train"), TokenShards.open(job.shards, "validation")
    check_splits(train, validation)
    with _workplace(job.work, job.training, [job.model, job.shards], {}) as work:
        kept = _kept_plan(work)
        plan = kept[1] if kept else _plan_finetuning(job, model.config, train)
        _keep_plan(work, model.config, plan)
        seed_everything(plan.seed)
        say(f"finetune: {describe_plan(plan)}")
        inputs = TrainingInputs("finetune", "chat", model, tokenizer, train, validation, plan, work)
        figures = run_training(inputs) | chart_rows(work)
        _save(model, tokenizer, out, overwrite, "finetune", plan, [job.model, job.shards], figures, work)
    return figures


@contextlib.contextmanager
def _workplace(
    work: Path, training: TrainingConfig, inputs: list[Path], said: dict[str, Any]
) -> Iterator[Path]:
    """The folder below `work` for a run of these settings and inputs. It stays when the run breaks off with
    a checkpoint to go on from; a run that ends well clears all of `work`.
    """
    settings = {"training": training.model_dump(mode="json"), "said": said}
    inside = work / config_digest(settings | {"inputs": [_identity(path) for path in inputs]})[:16]
    try:
        with disk_errors(inside):
            inside.mkdir(parents=True, exist_ok=True)
        yield inside
    except BaseException:
        if not any(inside.glob("step-*")):
            shutil.rmtree(inside, ignore_errors=True)
            with contextlib.suppress(OSError):
                work.rmdir()
        raise
    shutil.rmtree(work, ignore_errors=True)


def _identity(path: Path) -> Any:
    """An artifact's digest; of a foreign model folder its files' sizes and times."""
    if (path / LINEAGE).is_file():
        return open_artifact(path, verify=False).digest
    files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(path.iterdir()) if p.is_file()]
    return [list(facts) for facts in files]


def _plan_pretraining(
    job: Pretraining, tokenizer: Tokenizer, train: TokenShards
) -> tuple[DecoderConfig, TrainingPlan]:
    dial = _dial(job, tokenizer.vocab_size, train)
    say(f"pretrain: {dial.describe()}")
    training = job.training
    if job.seconds and not says_how_long(training):
        left = max(LEAST_SECONDS, job.seconds - job.seconds_spent)
        training = training.replace(**_steps_in(left, dial, training, train))
    return dial.config, _resolved(training, dial, train)


def _resolved(
    training: TrainingConfig,
    dial: SizePlan,
    train: TokenShards,
    learning_rate_share: float = 1.0,
    default_epochs: float = 1.0,
) -> TrainingPlan:
    """The plan that the size dial's choices make of what was left open."""
    return resolve(
        training,
        learning_rate=dial.learning_rate * learning_rate_share,
        embedding_learning_rate=dial.embedding_learning_rate * learning_rate_share,
        batch_tokens=dial.batch_tokens,
        max_seq_len=dial.config.max_seq_len,
        n_train_tokens=train.n_tokens,
        default_epochs=default_epochs,
    )


def _dial(job: Pretraining, vocab_size: int, train: TokenShards) -> SizePlan:
    if job.size:
        return size_dial(job.size, vocab_size, job.max_seq_len)
    device = pick_device(job.training.device)
    import torch

    peak = measured_peak_flops(device.type, torch.float32 if device.type == "cpu" else torch.bfloat16)
    seconds = max(LEAST_SECONDS, (job.seconds or 600.0) - job.seconds_spent)
    return choose_size(seconds, peak, train.n_tokens, vocab_size, job.max_seq_len)


def _steps_in(seconds: float, dial: SizePlan, training: TrainingConfig, train: TokenShards) -> dict[str, Any]:
    """Time a few steps of this very shape; how many fit into the time, compiled if more do that way."""
    plan = _resolved(training.replace(max_steps=N_TIMED_STEPS, compile="off"), dial, train)
    source = BatchSource(train, plan.seq_len, plan.seed)
    session = TrainingSession(LanguageModel(dial.config), source, next_token, plan, folder=None)
    timed = [record.seconds for record in session.steps()][N_TIMED_STEPS // 2 :]
    step = statistics.median(timed) * STEP_OVERHEAD
    n_eager = max(1, int(seconds / step))
    if training.compile == "off" or not compilation.can_compile(session.device):
        return {"max_steps": n_eager}
    speedup, cost = compilation.expected_gain(session.model, session.micro_batches(0))
    n_compiled = max(1, int((seconds - cost) / step * speedup))
    if training.compile == "on" or n_compiled > n_eager:
        return {"max_steps": n_compiled, "compile": "on"}
    return {"max_steps": n_eager, "compile": "off"}


def _plan_finetuning(job: Finetuning, shape: DecoderConfig, train: TokenShards) -> TrainingPlan:
    dial = size_dial(shape.n_params()["total"], shape.vocab_size, shape.max_seq_len)
    return _resolved(job.training, dial, train, TUNED_LEARNING_RATE_SHARE, default_epochs=2.0)


def _kept_plan(work: Path) -> tuple[DecoderConfig, TrainingPlan] | None:
    """The plan of an interrupted run, if there is one with a checkpoint."""
    if not (work / PLAN).exists() or not any(work.glob("step-*")):
        return None
    kept = read_json(work / PLAN)
    return DecoderConfig.parse(kept["shape"], str(work / PLAN)), TrainingPlan.parse(
        kept["plan"], str(work / PLAN)
    )


def _keep_plan(work: Path, shape: DecoderConfig, plan: TrainingPlan) -> None:
    write_json_atomic(
        work / PLAN, {"shape": shape.model_dump(mode="json"), "plan": plan.model_dump(mode="json")}
    )


def _save(
    model: LanguageModel,
    tokenizer: Tokenizer,
    out: Path,
    overwrite: bool,
    stage: str,
    plan: TrainingPlan,
    parents: list[Path],
    figures: dict[str, Any],
    work: Path,
) -> None:
    config = {"stage": stage, "chat": stage == "finetune", "plan": plan.model_dump(mode="json")}
    known = [
        parent for parent in parents if (parent / LINEAGE).is_file()
    ]  # a foreign model folder has no lineage
    lineage = Lineage("model", config, list(known), plan.seed, figures)
    card = model_card({"name": out.resolve().parent.name, "stages": {stage: figures}}, stage)
    started = time.monotonic()
    logs = [work / METRICS, work / EVENTS]
    save_model(model, tokenizer, out, lineage, overwrite, card=card, logs=logs)
    say(f"{stage}: written to {out} in {time.monotonic() - started:.1f}s")
