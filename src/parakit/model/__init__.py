"""Configs, layers, backbones, heads and adapters. Backbones and heads are plain `nn.Module`s; adapters wrap or replace
their modules.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Classifier": "heads",
        "ClassifierConfig": "config",
        "Decoder": "backbones",
        "DecoderConfig": "config",
        "Embedder": "heads",
        "EmbedderConfig": "config",
        "Encoder": "backbones",
        "EncoderConfig": "config",
        "EncoderDecoder": "backbones",
        "EncoderDecoderConfig": "config",
        "LanguageModel": "heads",
        "MaskedLanguageModel": "heads",
        "ActorCritic": "heads",
        "RewardModel": "heads",
        "SequenceToSequence": "heads",
        "count_choices": "layers.experts",
        "expert_load": "layers.experts",
        "preset": "pretrained_configs",
        "router_losses": "layers.experts",
        "pop_expert_load": "layers.experts",
        "config_for_size": "presets",
    },
)

__all__ = [
    "Classifier",
    "ClassifierConfig",
    "Decoder",
    "DecoderConfig",
    "Embedder",
    "EmbedderConfig",
    "Encoder",
    "EncoderConfig",
    "EncoderDecoder",
    "EncoderDecoderConfig",
    "LanguageModel",
    "MaskedLanguageModel",
    "ActorCritic",
    "RewardModel",
    "SequenceToSequence",
    "count_choices",
    "expert_load",
    "preset",
    "router_losses",
    "pop_expert_load",
    "config_for_size",
]
