"""What a run is predicted to take, next to what it took: for its figures and its model card.

The prediction is of the steps alone, before the first of them, on the model as it is built and the plan as it is resolved.
Time is predicted where this machine was calibrated before (`parakit plan` does that), memory always.
"""

from __future__ import annotations

from parakit.common.files import JsonObject
from parakit.model.config import ModelConfig
from parakit.model.quantized.layers import QuantizedWeight
from parakit.planning.machines import Machine
from parakit.planning.run_memory import run_bytes
from parakit.planning.run_plan import published_loss
from parakit.planning.runs import METHODS, RunMethod, RunSpec
from parakit.planning.step_time import step_seconds
from parakit.stages.planning.measuring import this_machine_if_known
from parakit.training.doctor.setup import TrainingSetup

PAIRED = ("dpo", "ipo", "simpo", "reward")


def predict(stage: str, objective: str, method: str, setup: TrainingSetup) -> JsonObject:
    """`predicted_step_seconds` and `predicted_peak_bytes` of a run, as far as they are known; {} on an accelerator, and for
    methods that the planner does not know.
    """
    plan, model = setup.plan, setup.model
    known: dict[str, RunMethod] = {"reward": "dpo", "ppo": "grpo", "full": "full"}
    kind = known.get(objective, objective if objective in METHODS else method)
    if stage == "pretrain":
        kind = "pretrain"
    if kind not in METHODS or kind in ("grpo", "distill") or next(model.parameters()).device.type != "cpu":
        return {}
    is_quantized = any(isinstance(module, QuantizedWeight) for module in model.modules())
    config: ModelConfig = model.config
    spec = RunSpec(
        config,
        "qlora" if is_quantized and kind == "lora" else kind,
        seq_len=plan.seq_len,
        n_rows=plan.n_rows,
        micro_batch_size=plan.micro_batch_size,
        optimizer=plan.optimizer,
        precision="float32" if plan.precision == "auto" else plan.precision,
        checkpointing=plan.gradient_checkpointing,
        bits=4 if is_quantized else 16,
    )
    machine = this_machine_if_known()
    return {"predicted_peak_bytes": run_bytes(spec, machine).peak} | _time(spec, machine)


def expected_loss(stage: str, objective: str, config: ModelConfig, figures: JsonObject) -> JsonObject:
    """`predicted_loss` of a decoder that was pre-trained, by a published law of other text; {} where none reaches so far."""
    if stage != "pretrain" or objective != "next_token" or not figures.get("tokens"):
        return {}
    found = published_loss(config, figures["tokens"])
    if found is None:
        return {}
    law = f"{found.law}, on the text and vocabulary of its authors"
    return {"predicted_loss": {"value": found.loss, "low": found.low, "high": found.high, "law": law}}


def _time(spec: RunSpec, machine: Machine | None) -> JsonObject:
    return {} if machine is None else {"predicted_step_seconds": step_seconds(spec, machine).total}
