"""Parameter-efficient tuning: wrappers that replace modules of a plain model. The base stays frozen, bit for bit;
detaching the wrappers restores it.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Adapter": "attachment",
        "AdapterSet": "attachment",
        "LoraConfig": "config",
        "PrefixConfig": "config",
        "PromptConfig": "config",
        "adapter_parameters": "attachment",
        "attach": "attachment",
        "detach": "attachment",
        "is_adapted": "attachment",
        "make_lora": "creation",
        "make_prefix": "creation",
        "make_prompt": "creation",
        "without_adapter": "attachment",
    },
)

__all__ = [
    "Adapter",
    "AdapterSet",
    "LoraConfig",
    "PrefixConfig",
    "PromptConfig",
    "adapter_parameters",
    "attach",
    "detach",
    "is_adapted",
    "make_lora",
    "make_prefix",
    "make_prompt",
    "without_adapter",
]
