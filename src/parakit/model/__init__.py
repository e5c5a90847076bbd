"""Configs, layers, backbones, heads and adapters. Backbones and heads are plain `nn.Module`s; adapters wrap or replace
their modules.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ActorCritic": "heads",
        "Classifier": "heads",
        "ClassifierConfig": "config",
        "DecoderConfig": "config",
        "Embedder": "heads",
        "EmbedderConfig": "config",
        "EncoderConfig": "config",
        "EncoderDecoderConfig": "config",
        "LanguageModel": "heads",
        "MaskedLanguageModel": "heads",
        "RewardModel": "heads",
        "SequenceToSequence": "heads",
        "config_for_size": "presets",
        "count_choices": "layers.experts",
        "expert_load": "layers.experts",
        "pop_expert_load": "layers.experts",
        "preset": "pretrained_configs",
        "router_losses": "layers.experts",
    },
)

__all__ = [
    "ActorCritic",
    "Classifier",
    "ClassifierConfig",
    "DecoderConfig",
    "Embedder",
    "EmbedderConfig",
    "EncoderConfig",
    "EncoderDecoderConfig",
    "LanguageModel",
    "MaskedLanguageModel",
    "RewardModel",
    "SequenceToSequence",
    "config_for_size",
    "count_choices",
    "expert_load",
    "pop_expert_load",
    "preset",
    "router_losses",
]
