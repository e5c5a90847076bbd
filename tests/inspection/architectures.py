"""A tiny network with random weights of every published architecture, built from transformers' settings."""

from __future__ import annotations

from typing import Any

import torch

from parakit.checkpoints.registry import ARCHITECTURES
from parakit.inspection.inputs import ModelInput
from parakit.model.config import ModelConfig
from parakit.model.heads import LanguageModel, MaskedLanguageModel, SequenceToSequence
from tests.checkpoints.architectures.encoder_decoder_cases import ENCODER_DECODERS, PAIR
from tests.checkpoints.decoder_cases import DECODERS
from tests.checkpoints.decoder_cases import SIZES as DECODER_SIZES
from tests.checkpoints.encoder_cases import ENCODERS
from tests.checkpoints.encoder_cases import SIZES as ENCODER_SIZES

_GPT2 = {
    **{"vocab_size": 97, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128},
    **{"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2},
}
_EXPERTS = {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "head_dim": 8}
_FRAMED = {"bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2}
# model_type -> transformers' class of settings, and the settings
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", _GPT2),
    "llama": ("LlamaConfig", DECODER_SIZES),
    "mistral": ("MistralConfig", DECODER_SIZES | {"sliding_window": 6}),
    "qwen2": ("Qwen2Config", DECODER_SIZES),
    "qwen3": ("Qwen3Config", DECODER_SIZES | {"head_dim": 8}),
    "mixtral": ("MixtralConfig", DECODER_SIZES | {"num_local_experts": 4}),
    "qwen3_moe": ("Qwen3MoeConfig", DECODER_SIZES | _EXPERTS),
    "bert": ("BertConfig", ENCODER_SIZES),
    "modernbert": ("ModernBertConfig", ENCODER_SIZES | _FRAMED | {"local_attention": 8}),
    "bart": ("BartConfig", PAIR),
    "marian": ("MarianConfig", PAIR | {"pad_token_id": 96, "decoder_start_token_id": 96, "eos_token_id": 0}),
}
for _name, _case in (*DECODERS.items(), *ENCODERS.items(), *ENCODER_DECODERS.items()):
    if _name not in SETTINGS:
        _variant: Any = next(iter(_case.variants.values()))
        _class = getattr(_case, "config", None) or f"{_case.prefix}Config"
        SETTINGS[_name] = (_class, {**_case.sizes, **_variant})
_HEADS = {
    "decoder": LanguageModel,
    "encoder": MaskedLanguageModel,
    "encoder-decoder": SequenceToSequence,
}
_NOT_SETTINGS = ("separate_head", "unscaled", "forced_bos")
WITHOUT_MAPS = ("qwen3_5_text", "qwen3_5_moe_text")  # some of their layers are recurrent


def architecture_config(name: str) -> ModelConfig:
    """The settings of a tiny model of this architecture."""
    import transformers

    kind, settings = SETTINGS[name]
    given = {key: value for key, value in settings.items() if key not in _NOT_SETTINGS}
    as_file = getattr(transformers, kind)(**given).to_dict()
    return ARCHITECTURES[name].read_settings(as_file, "config.json")


def network_of(name: str, seed: int = 0) -> Any:
    """The network, with weights away from zero and one."""
    torch.manual_seed(seed)
    config = architecture_config(name)
    return with_noise(_HEADS[config.family](config))


def with_noise(network: Any, spread: float = 0.2) -> Any:
    """Fresh weights moved, since zeros and ones hide mistakes."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * spread)
    return network.eval()


def random_input(network: Any, n_tokens: int = 14, seed: int = 1) -> ModelInput:
    """Random ordinary ids; of an encoder-decoder both sides."""
    generator = torch.Generator().manual_seed(seed)

    def ids(config: Any, n: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, config.vocab_size, (n,), generator=generator).tolist())

    if isinstance(network, SequenceToSequence):
        config = network.config
        target = (config.decoder_start_id, *ids(config.decoder, n_tokens - 3))
        return ModelInput(
            target, target_names(n_tokens - 2), (), ids(config.encoder, n_tokens), target_names(n_tokens)
        )
    return ModelInput(ids(network.config, n_tokens), target_names(n_tokens))


def target_names(n: int) -> tuple[str, ...]:
    """Words for tokens that have no tokenizer."""
    return tuple(f" t{i}" for i in range(n))
