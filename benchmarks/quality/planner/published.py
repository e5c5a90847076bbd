"""Sizes, tokens and operations of published models, as their papers state them, and what the planner makes of them."""

from __future__ import annotations

from dataclasses import dataclass

from parakit.model.pretrained_configs import preset
from parakit.planning.laws import BESIROGLU, chinchilla_tokens
from parakit.planning.machines import find_machine
from parakit.planning.operations import six_nd

# Name of the preset -> parameters as published, rounded as there; where they are.
SIZES = {
    "gpt": (117e6, "Radford et al. 2018 (117M)"),
    "gpt2": (124e6, "GPT-2's repository (124M; the paper's 117M was corrected)"),
    "gpt2-medium": (355e6, "GPT-2's repository (355M)"),
    "gpt2-large": (774e6, "GPT-2's repository (774M)"),
    "gpt2-xl": (1558e6, "GPT-2's repository (1558M)"),
    "gpt-3": (175e9, "Brown et al. 2020, table 2.1 (175.0B)"),
    "bert-base": (110e6, "Devlin et al. 2019 (110M)"),
    "bert-large": (340e6, "Devlin et al. 2019 (340M)"),
    "llama-2-7b": (6.74e9, "meta-llama/Llama-2-7b-hf (6.74B)"),
    "llama-2-13b": (13.02e9, "meta-llama/Llama-2-13b-hf (13.02B)"),
    "llama-2-70b": (68.98e9, "meta-llama/Llama-2-70b-hf (68.98B)"),
}
# Hoffmann et al. 2022, table 3 (approach 1), and Chinchilla itself: operations -> tokens.
CHINCHILLA = {
    1.92e19: 8.0e9, 1.21e20: 20.2e9, 1.23e22: 205.1e9, 5.76e23: 1.5e12, 3.85e24: 3.7e12, 9.90e24: 5.9e12, 3.43e25: 11.0e12,
    1.27e26: 21.2e12, 1.30e28: 216.2e12,
}  # fmt: skip
CHINCHILLA_ITSELF = (6 * 70e9 * 1.4e12, 1.4e12)  # 70B parameters
GPT3_OPERATIONS, GPT3_TOKENS = 3.14e23, 300e9  # Brown et al. 2020, table D.1
LLAMA2_HOURS, LLAMA2_TOKENS = 184_320, 2e12  # Touvron et al. 2023, table 2: hours of A100-80GB
SIZE_ERROR, OPERATIONS_ERROR, TOKENS_ERROR, HOURS_ERROR = 0.02, 0.01, 0.1, 0.1


@dataclass(frozen=True)
class Reproduced:
    """One published figure: what the planner computes, and the relative error that is allowed."""

    name: str
    published: float
    computed: float
    limit: float
    source: str

    @property
    def error(self) -> float:
        """Relative."""
        return abs(self.computed / self.published - 1)


def reproduced() -> list[Reproduced]:
    """All of them."""
    rows = [
        Reproduced(f"{name}: parameters", published, preset(name).n_params()["total"], SIZE_ERROR, source)
        for name, (published, source) in SIZES.items()
    ]
    operations = six_nd(preset("gpt-3").n_params()["total"], GPT3_TOKENS)
    source = "Brown et al. 2020, table D.1"
    rows.append(
        Reproduced("gpt-3: operations of training", GPT3_OPERATIONS, operations, OPERATIONS_ERROR, source)
    )
    rows.append(_llama_hours())
    budgets = {**CHINCHILLA, CHINCHILLA_ITSELF[0]: CHINCHILLA_ITSELF[1]}
    for flops, tokens in sorted(budgets.items()):
        source = (
            "Hoffmann et al. 2022, table 3"
            if flops in CHINCHILLA
            else "Hoffmann et al. 2022, Chinchilla itself"
        )
        rows.append(
            Reproduced(
                f"tokens for {flops:.3g} operations", tokens, chinchilla_tokens(flops), TOKENS_ERROR, source
            )
        )
    tokens = BESIROGLU.optimal_tokens(CHINCHILLA_ITSELF[0])
    rows.append(
        Reproduced(
            "tokens for Chinchilla's operations, corrected fit", 1.4e12, tokens, 0.15, "Besiroglu et al. 2024"
        )
    )
    return rows


def _llama_hours() -> Reproduced:
    """Hours of A100 for LLaMA-2 7B, at the planner's usual share of the peak."""
    machine = find_machine("a100-80gb")
    config = preset("llama-2-7b")
    flops = LLAMA2_TOKENS * config.flops_per_token(4096)
    hours = flops / machine.flops("bfloat16") / 3600
    source = "Touvron et al. 2023, table 2"
    return Reproduced("llama-2-7b: hours of A100", LLAMA2_HOURS, hours, HOURS_ERROR, source)
