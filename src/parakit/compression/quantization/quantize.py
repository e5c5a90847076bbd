"""Quantize a language model and measure what it costs: from a model to a quantized one and its figures.

In order: the text, what the original predicts and how fast it is, the plan (bits by layer under a size budget), the method,
the swap of the modules, and the same measurements again. `QualityLoss` when a suite falls by more than a point: nothing is
written then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from parakit.common.byte_counts import parse_bytes
from parakit.common.choices import part_of
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import progress
from parakit.compression.quantization.config import (
    Calibration,
    FixedBits,
    GPTQConfig,
    QuantizeConfig,
    SensitivityTokens,
    Tuning,
)
from parakit.compression.quantization.contributions import measure_contributions
from parakit.compression.quantization.measurement import (
    MAX_SUITE_LOSS,
    OriginalOutputs,
    decode_speed,
    fallen_suites,
    suite_scores,
)
from parakit.compression.quantization.methods import round_matrices
from parakit.compression.quantization.plan import (
    QuantizationPlan,
    budget_plans,
    full_bytes,
    plan_bytes,
    plan_quantization,
)
from parakit.compression.quantization.sensitivity import (
    Sensitivity,
    choose_schemes,
    measure_sensitivity,
    sensitivity_of,
)
from parakit.compression.quantization.text import Windows, find_windows
from parakit.compression.quantization.tuning import tune_rounding, windows_needed
from parakit.model.heads import LanguageModel
from parakit.model.quantized import QuantizedTensor, is_quantized, quantizable, quantize_modules
from parakit.primer.config import PrimerSuitesConfig
from parakit.tokens.tokenizer.tokenizer import Tokenizer

INT8_CACHE_KL = 1e-3
"""In nats a token: below it an int8 cache is recommended."""


@dataclass(frozen=True)
class SuiteSettings:
    """Which suites are run, and how: with the chat template or as plain text."""

    suites: PrimerSuitesConfig
    chat: bool
    max_new_tokens: int = 120


class QualityLoss(Exception):
    """A suite fell by more than a point; `figures` are all that was measured."""

    def __init__(self, fallen: dict[str, float], figures: JsonObject) -> None:
        self.fallen, self.figures = fallen, figures
        falls = ", ".join(f"{name} by {fall:.1%}" for name, fall in fallen.items())
        super().__init__(f"these suites fell by more than {MAX_SUITE_LOSS:.0%}: {falls}; nothing was written")


def quantize_model(
    model: LanguageModel,
    tokenizer: Tokenizer | None,
    folder: Path,
    config: QuantizeConfig,
    suites: SuiteSettings | None = None,
) -> JsonObject:
    """Quantize `model` (float32) in place and return the figures. `folder`: its own, whose lineage may lead to the text that
    it was trained on. `UserError` before any work for a model that cannot be quantized, a group that does not fit, or text
    that is too short; `QualityLoss` as above, unless `config.accept_loss`.
    """
    check_can_quantize(model, folder)
    plan = plan_quantization(model, config)
    calibration, measured = find_windows(model, tokenizer, folder, config)
    original_bytes, n_weights = full_bytes(model), sum(p.numel() for p in model.parameters())
    outputs = OriginalOutputs(model, measured.token_ids)
    speed, scores = decode_speed(model), _scores(model, tokenizer, suites)
    sensitivity: list[Sensitivity] = []
    if config.size_budget is not None:
        assert calibration is not None
        plan, sensitivity = _fit_budget(
            model, config, parse_bytes(config.size_budget, "size budget"), calibration
        )
    elif (fixed := part_of(config, FixedBits)) and fixed.sensitivity:
        sensitivity = _sensitivity(model, config, calibration or measured, [plan])[0]
    n_bytes = plan_bytes(model, plan.schemes)
    tune = _tuning(model, config, calibration, plan)
    tensors = _rounded("quantize", model, plan, config, calibration)
    quantize_modules(model, plan.schemes, tune(tensors))
    divergence, with_cache = outputs.compare(model), outputs.compare(model, int8_cache=True)
    after = _scores(model, tokenizer, suites)
    figures: JsonObject = {
        "size": {
            "original_bytes": original_bytes,
            "bytes": n_bytes,
            "ratio": original_bytes / n_bytes,
            "bits_per_weight": 8 * n_bytes / n_weights,
        },
        "speed": {"original_tokens_per_second": speed, "tokens_per_second": decode_speed(model)},
        "divergence": divergence.figures() | {"text": measured.source},
        "int8_cache": {"kl": with_cache.kl, "recommended": with_cache.kl - divergence.kl < INT8_CACHE_KL},
        "suites": {"original": scores, "quantized": after},
        "calibration": _text_figures(calibration),
        "layers": _layer_figures(plan),
        "sensitivity": [asdict(one) for one in sensitivity],
    }
    fallen = fallen_suites(scores, after)
    if fallen and not config.accept_loss:
        raise QualityLoss(fallen, figures)
    return figures


def check_can_quantize(model: object, folder: Path) -> None:
    """`UserError` for what is no plain language model."""
    if not isinstance(model, LanguageModel):
        raise UserError(
            f"{folder}: is a {type(model).__name__}, and only models that predict the next token are quantized",
            "quantize a decoder with its language model's head",
        )
    if is_quantized(model):
        raise UserError(f"{folder}: is quantized already", "quantize the model that it was made from")


def _fit_budget(
    model: LanguageModel, config: QuantizeConfig, budget: int, calibration: Windows
) -> tuple[QuantizationPlan, list[Sensitivity]]:
    """The plan of most accuracy within `budget` bytes."""
    plans = budget_plans(model, config)
    choose_schemes(model, budget, plans, [_sizes(model, plan) for plan in plans])  # fails early
    measured = _sensitivity(model, config, calibration, plans)
    if isinstance(config, GPTQConfig):
        measured[0] = _after_gptq(model, config, calibration, plans[0], measured[0])
    return choose_schemes(model, budget, plans, measured)


def _after_gptq(
    model: LanguageModel,
    config: GPTQConfig,
    calibration: Windows,
    plan: QuantizationPlan,
    estimated: Sequence[Sensitivity],
) -> list[Sensitivity]:
    """The sensitivities of the smallest plan with what each matrix contributes once all are rounded by GPTQ: much less than
    rounding costs, and not by the same share everywhere. Rounds the whole model once; its weights are put back.
    """
    tokens = part_of(config, SensitivityTokens)
    assert tokens is not None
    n = max(1, tokens.n_sensitivity_tokens // calibration.token_ids.shape[1])
    outputs = OriginalOutputs(model, calibration.token_ids[-n:])  # GPTQ reads the first windows
    originals = {name: model.get_parameter(f"{name}.weight").detach().clone() for name in plan.schemes}
    _rounded("sensitivity of gptq", model, plan, config, calibration)
    contributions = measure_contributions(model, outputs, originals)
    with torch.no_grad():
        for name, weight in originals.items():
            model.get_parameter(f"{name}.weight").copy_(weight)
    return [replace(one, kl=contributions[one.name]) for one in estimated]


def _rounded(
    what: str,
    model: LanguageModel,
    plan: QuantizationPlan,
    config: QuantizeConfig,
    calibration: Windows | None,
) -> dict[str, QuantizedTensor]:
    with progress(what, len(plan.schemes), "matrices") as bar:
        return round_matrices(
            model,
            plan.schemes,
            config,
            _rounding_windows(config, calibration),
            lambda name: bar.advance(matrix=name.removeprefix("trunk.")),
        )


def _tuning(
    model: LanguageModel, config: QuantizeConfig, calibration: Windows | None, plan: QuantizationPlan
) -> Callable[[dict[str, QuantizedTensor]], dict[str, QuantizedTensor]]:
    """What tunes rounded matrices towards the model as it is now."""
    settings = part_of(config, Calibration)
    if settings is None or calibration is None or not settings.tune_steps:
        return lambda tensors: tensors
    n_steps = settings.tune_steps
    outputs = OriginalOutputs(model, calibration.token_ids[: windows_needed(n_steps)])
    weights: dict[str, Tensor] = {}
    if (tuning := part_of(config, Tuning)) and tuning.tune_codes:
        weights = {name: model.get_parameter(f"{name}.weight").detach().clone() for name in plan.schemes}

    def tune(tensors: dict[str, QuantizedTensor]) -> dict[str, QuantizedTensor]:
        with progress("tune", n_steps, "steps") as bar:
            return tune_rounding(
                model, tensors, outputs, n_steps, lambda kl: bar.advance(kl=f"{kl:.4f}"), weights
            )

    return tune


def _rounding_windows(config: QuantizeConfig, calibration: Windows | None) -> Tensor | None:
    """Those of the calibration windows that a method reads; tuning may need more."""
    settings = part_of(config, Calibration)
    if settings is None or calibration is None:
        return None
    windows = calibration.token_ids
    return windows[: max(1, settings.n_calibration_tokens // windows.shape[1])]


def _sizes(model: LanguageModel, plan: QuantizationPlan) -> list[Sensitivity]:
    shapes = quantizable(model)
    return [sensitivity_of(name, scheme, shapes[name], 0.0) for name, scheme in plan.schemes.items()]


def _sensitivity(
    model: LanguageModel, config: QuantizeConfig, text: Windows, plans: Sequence[QuantizationPlan]
) -> list[list[Sensitivity]]:
    seq_len = text.token_ids.shape[1]
    tokens = part_of(config, SensitivityTokens)
    assert tokens is not None
    n = tokens.n_sensitivity_tokens
    windows = text.token_ids[: max(1, n // seq_len), :n]
    with progress("sensitivity", len(plans[0].schemes), "matrices") as bar:
        return measure_sensitivity(
            model,
            windows,
            plans,
            config.searches_scales,
            lambda name: bar.advance(matrix=name.removeprefix("trunk.")),
        )


def _scores(
    model: LanguageModel, tokenizer: Tokenizer | None, settings: SuiteSettings | None
) -> dict[str, float]:
    if settings is None or tokenizer is None:
        return {}
    return suite_scores(model, tokenizer, settings.suites, settings.chat, settings.max_new_tokens)


def _text_figures(calibration: Windows | None) -> JsonObject | None:
    return None if calibration is None else {"text": calibration.source, "n_tokens": calibration.n_tokens}


def _layer_figures(plan: QuantizationPlan) -> JsonObject:
    """How many matrices have which scheme, and what is not as it was set."""
    schemes: dict[str, int] = {}
    for scheme in plan.schemes.values():
        group = "rows" if scheme.quant_group_size is None else f"groups of {scheme.quant_group_size}"
        name = f"int{scheme.bits}, {group}"
        schemes[name] = schemes.get(name, 0) + 1
    return {"schemes": schemes, "notes": plan.notes}
