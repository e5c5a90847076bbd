"""The plan of one run: parameters, operations, memory, time, energy and money, tokens needed and expected loss."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from parakit.model.config import ModelConfig
from parakit.planning.costs import Cost, run_cost
from parakit.planning.fitting import Fit, fit
from parakit.planning.laws import BESIROGLU, ExpectedLoss, TokensNeeded, expected_loss, tokens_needed
from parakit.planning.machines import Machine
from parakit.planning.memory import cache_bytes
from parakit.planning.operations import Operations, six_nd, step_operations
from parakit.planning.run_memory import RunBytes, run_bytes
from parakit.planning.runs import RunSpec, check_run
from parakit.planning.step_time import StepSeconds, step_seconds

FAR = 3.0  # times smaller than the smallest model or the least data of a law


@dataclass(frozen=True)
class RunPlan:
    """What a run is predicted to take. `n_steps`: optimizer steps, or decoding steps for inference."""

    spec: RunSpec
    machine: Machine
    n_steps: int
    operations: Operations
    """Of one step."""
    memory: RunBytes
    step: StepSeconds
    fit: Fit
    cost: Cost
    needed: TokensNeeded | None = None
    """For pre-training."""
    expected: ExpectedLoss | None = None
    """For the pre-training of a decoder."""

    @property
    def n_tokens(self) -> int:
        """Of all steps, padding included; for inference those that are written."""
        return self.n_steps * (self.spec.n_tokens if self.spec.trains else self.spec.n_rows)

    @property
    def seconds(self) -> float:
        """Of all steps."""
        return self.n_steps * self.step.total

    @property
    def tokens_per_second(self) -> float:
        """Of a step."""
        return self.n_tokens / self.seconds if self.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """For `--json`, lineage files and cards."""
        config = self.spec.config
        parameters = config.n_params()
        return {
            "method": self.spec.method,
            "family": config.family,
            "parameters": parameters,
            "active_parameters": config.n_active_params(),
            "trained_parameters": self.spec.n_trained,
            "run": {
                "seq_len": self.spec.seq_len,
                "n_rows": self.spec.n_rows,
                "micro_batch_size": self.spec.micro_batch_size,
                "optimizer": self.spec.optimizer,
                "precision": self.spec.precision,
                "checkpointing": self.spec.checkpointing,
                "n_devices": self.spec.n_devices,
                "sharding": self.spec.sharding,
            },
            "machine": {
                "name": self.machine.name,
                "title": self.machine.title,
                "source": self.machine.source,
            },
            "steps": self.n_steps,
            "tokens": self.n_tokens,
            "operations": asdict(self.operations)
            | {"step": self.operations.total, "all": self.n_steps * self.operations.total}
            | {"six_nd": six_nd(config.n_active_params(), self.n_tokens) if self.spec.trains else None},
            "memory": self.memory.parts() | {"peak": self.memory.peak},
            "cache_bytes_per_token": cache_per_token(config),
            "seconds": {"step": self.step.total, "all": self.seconds}
            | {name: value for name, value in asdict(self.step).items() if value and name != "all"},
            "tokens_per_second": self.tokens_per_second,
            "fits": self.fit.fits,
            "available_bytes": self.fit.available_bytes,
            "nearest_that_fits": self.fit.change or None,
            "cost": asdict(self.cost),
            "tokens_needed": asdict(self.needed) if self.needed else None,
            "expected_loss": asdict(self.expected) if self.expected else None,
        }


def plan_run(
    spec: RunSpec,
    machine: Machine,
    n_tokens: float,
    *,
    price_per_hour: float | None = None,
    price_per_kwh: float | None = None,
) -> RunPlan:
    """Plan `spec` for `n_tokens` in all. Raises `UserError` for shapes that make no sense; what does not fit is planned as
    well, with what would fit instead.
    """
    check_run(spec)
    each = spec.n_tokens if spec.trains else spec.n_rows
    n_steps = max(1, round(n_tokens / each))
    step = step_seconds(spec, machine)
    is_new = spec.method == "pretrain"
    return RunPlan(
        spec=spec,
        machine=machine,
        n_steps=n_steps,
        operations=step_operations(spec),
        memory=run_bytes(spec, machine),
        step=step,
        fit=fit(spec, machine),
        cost=run_cost(machine, n_steps * step.total, price_per_hour, price_per_kwh),
        needed=_needed(spec.config) if is_new else None,
        expected=published_loss(spec.config, n_steps * each) if is_new else None,
    )


def cache_per_token(config: ModelConfig, value_bytes: int = 2) -> int:
    """Bytes of the KV cache for each token of a sequence; 0 for an encoder."""
    found = cache_bytes(config, value_bytes)
    return found.per_token if found else 0


def _needed(config: ModelConfig) -> TokensNeeded:
    parameters = config.n_params()
    return tokens_needed(config.n_active_params(), parameters["total"] - parameters["token_embedding"])


def published_loss(config: ModelConfig, n_tokens: float) -> ExpectedLoss | None:
    """What a published law expects of a decoder that predicts the next token. None far from the sizes and data that it was
    fitted to: its terms then grow beyond the loss of a uniform guess.
    """
    n_params = config.n_active_params()
    is_near = n_params >= BESIROGLU.n_range[0] / FAR and n_tokens >= BESIROGLU.d_range[0] / FAR
    return expected_loss(n_params, n_tokens) if config.family == "decoder" and is_near else None
