"""A tiny random model of every decoder architecture that Parakit loads, in float64, where equal tokens mean equal
arithmetic; and the reference for its tokens, a whole pass without any cache.
"""

from __future__ import annotations

import functools

import torch

from parakit.checkpoints.registry import ARCHITECTURES
from parakit.common.seeds import rng
from parakit.model import DecoderConfig, LanguageModel
from tests.checkpoints.decoder_cases import DECODERS, SIZES
from tests.checkpoints.test_checkpoints_decoders import EXPERTS, GPT2_SIZES

OLDER = {
    "gpt2": GPT2_SIZES,
    "llama": SIZES,
    "mistral": SIZES | {"sliding_window": 6},
    "qwen2": SIZES,
    "qwen3": SIZES | {"head_dim": 8},
    "qwen3_moe": SIZES | EXPERTS,
    "mixtral": SIZES | {"num_local_experts": 4, "num_experts_per_tok": 2},
}
NAMES = [*OLDER, *DECODERS]
LONGROPE = ("phi3", "Phi-3-mini-128k")


def decoder_config(name: str, variant: str | None = None) -> DecoderConfig:
    """The first variant of an architecture, or the one named."""
    if name in OLDER:
        sizes, prefix = OLDER[name], name
    else:
        case = DECODERS[name]
        sizes, prefix = {**case.sizes, **case.variants[variant or next(iter(case.variants))]}, case.prefix
    settings = {**sizes, "model_type": name, "architectures": [f"{prefix}ForCausalLM"]}
    config = ARCHITECTURES[name].read_settings(settings, "config.json")
    assert isinstance(config, DecoderConfig)
    return config


@functools.cache
def tiny_decoder(name: str, variant: str | None = None) -> LanguageModel:
    """Random weights that add much to every residual sum, vectors among them."""
    torch.manual_seed(len(name))
    model = LanguageModel(decoder_config(name, variant)).double()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=1.5 * parameter.shape[-1] ** -0.5)
            elif "decay" not in key:
                parameter.normal_(std=0.3).add_(0.0 if key.endswith("bias") else 1.0)
    return model.eval()


def random_prompts(config: DecoderConfig, n: int, longest: int, label: str = "engine") -> list[list[int]]:
    """`n` prompts of 1 to `longest` tokens; each third begins as the one before it."""
    generator = rng(5, label)
    prompts: list[list[int]] = []
    for i, length in enumerate(generator.integers(1, longest + 1, n).tolist()):
        prompt = generator.integers(0, config.vocab_size, length).tolist()
        if i % 3 and prompts:
            shared = prompts[-1][: max(1, len(prompts[-1]) * 3 // 4)]
            prompt = [*shared, *prompt[: max(1, length // 3)]][:longest]
        prompts.append(prompt)
    return prompts


@torch.no_grad()
def check_by_whole_passes(
    model: LanguageModel, prompts: list[list[int]], completions: list[list[int]]
) -> None:
    """Assert that each completion is what a whole pass over it, without a cache, would choose greedily."""
    switches = model.config.rope_scaling is not None and model.config.rope_scaling.kind == "longrope"
    for prompt, tokens in zip(prompts, completions, strict=True):
        if switches:  # the angles of all tokens depend on the last
            for n, token in enumerate(tokens):
                assert model(torch.tensor([[*prompt, *tokens[:n]]]))[0, -1].argmax() == token
        else:
            whole = model(torch.tensor([[*prompt, *tokens]]))[0, len(prompt) - 1 : -1]
            assert whole.argmax(-1).tolist() == tokens
