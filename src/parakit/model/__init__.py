"""Every `nn.Module`, and the shapes they are built from. The trunk and heads are plain modules;
capabilities wrap or replace them from outside.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {"Decoder": "decoder", "DecoderConfig": "config", "LanguageModel": "heads", "size_dial": "presets"},
)
__all__ = ["Decoder", "DecoderConfig", "LanguageModel", "size_dial"]
