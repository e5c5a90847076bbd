"""Every `nn.Module`, and the shapes they are built from. The trunk and heads are plain modules;
capabilities wrap or replace them from outside.
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
