"""Parameter-efficient tuning: wrappers that stand in the place of a plain model's modules. The base stays frozen and
as it is, to the bit; taking the wrappers off gives it back.
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
        "attach": "attachment",
        "detach": "attachment",
        "is_adapted": "attachment",
        "make_lora": "creation",
        "make_prefix": "creation",
        "make_prompt": "creation",
        "own_parameters": "attachment",
        "without_adapter": "attachment",
    },
)

__all__ = [
    "Adapter",
    "AdapterSet",
    "LoraConfig",
    "PrefixConfig",
    "PromptConfig",
    "attach",
    "detach",
    "is_adapted",
    "make_lora",
    "make_prefix",
    "make_prompt",
    "own_parameters",
    "without_adapter",
]
