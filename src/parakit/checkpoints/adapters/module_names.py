"""Which module of transformers' model of the same architecture corresponds to a module of a model here.

Derived from the architecture's tensors: a module there is a matrix there. One module there may contain several here,
stacked (GPT-2's `c_attn`, ModernBERT's `Wqkv`). A tied output matrix has a name there, but no tensor of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from parakit.checkpoints import registry
from parakit.checkpoints.mapping import Architecture, Head
from parakit.common.errors import UserError
from parakit.model.config import ModelConfig

_EMBEDDINGS = ("trunk.token_embedding", "trunk.encoder.token_embedding")


@dataclass(frozen=True)
class ModuleSlice:
    """A module here, and its rows in the module of transformers that contains it; None: all of them."""

    name: str
    rows: tuple[int, int] | None
    groups: int = 1
    """As in `TensorSlice`."""


@dataclass(frozen=True)
class HFModule:
    """A module of transformers with a matrix, and the modules here that it contains, in the order of its rows."""

    hf_name: str
    slices: tuple[ModuleSlice, ...]
    transposed: bool
    """Its matrix is stored (inputs, outputs)."""


class ModuleNames:
    """Modules and parameters of a model here, and of transformers' model with the same config and head."""

    def __init__(self, architecture: Architecture, config: ModelConfig, head: Head) -> None:
        self.class_name = registry.class_name(architecture, head)
        self.modules: dict[str, HFModule] = {}
        """By transformers' name."""
        self.parameters: dict[str, str] = {}
        """Parameter here -> its name there, where it is a whole tensor there."""
        for tensor in architecture.hf_tensors(config, head):
            slices = tensor.sorted_slices()
            if len(slices) == 1 and slices[0].expert is None:
                self.parameters[slices[0].name] = tensor.hf_name
            is_matrix = len(tensor.shape) == 2 and tensor.hf_name.endswith(".weight")
            if is_matrix and all(one.expert is None and one.name.endswith(".weight") for one in slices):
                parts = tuple(
                    ModuleSlice(one.name.removesuffix(".weight"), one.rows, one.groups) for one in slices
                )
                hf_name = tensor.hf_name.removesuffix(".weight")
                self.modules[hf_name] = HFModule(hf_name, parts, slices[0].transposed)
        self._add_tied_head(architecture, config, head)

    def module_with(self, name: str) -> HFModule:
        """The module of transformers that contains the module `name`; `UserError` where there is none for it alone."""
        for module in self.modules.values():
            if any(part.name == name for part in module.slices):
                return module
        raise UserError(
            f"{name} has no module of its own in transformers' {self.class_name}, so an adapter of it cannot be saved",
            "leave it out of lora_targets",
        )

    def _add_tied_head(self, architecture: Architecture, config: ModelConfig, head: Head) -> None:
        """The output matrix of a tied decoder or encoder gets its name. A tied encoder-decoder's embedding is three
        modules there, so that no adapter of one of them is equivalent to an adapter of the embedding here.
        """
        if config.family == "encoder-decoder":
            if config.tie_embeddings:
                self.modules = {
                    hf_name: module
                    for hf_name, module in self.modules.items()
                    if all(part.name not in _EMBEDDINGS for part in module.slices)
                }
            return
        if head.kind in ("language_model", "masked_language_model") and config.tie_embeddings:
            weight = next(name for name in architecture.TIED_COPIES if name.endswith(".weight"))
            hf_name = weight.removesuffix(".weight")
            self.modules[hf_name] = HFModule(hf_name, (ModuleSlice("lm_head", None),), False)
