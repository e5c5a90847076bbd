"""A model as one GGUF file, and such a file as a model in memory, to compare the two.

Writing: the settings under llama.cpp's keys, the tokenizer, and every tensor quantized as it is streamed to the disk.
Reading: as `conversion` does, without a folder in between. Whether a file is right is decided by `compression.gguf_export`,
which compares what is read with what was written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from parakit.checkpoints import registry, weights
from parakit.checkpoints.gguf.families import family_of
from parakit.checkpoints.gguf.metadata import ModelMetadata
from parakit.checkpoints.gguf.quantization import quantize
from parakit.checkpoints.gguf.reader import read_gguf
from parakit.checkpoints.gguf.rope import ROPE_FACTORS
from parakit.checkpoints.gguf.settings_export import EXPORTED, ExportedFamily, rope_factors
from parakit.checkpoints.gguf.tensor_types import FILE_TYPES, GGUFType, plan_tensors
from parakit.checkpoints.gguf.tensors import published_tensors
from parakit.checkpoints.gguf.tensors_export import GGUFNames, gguf_shapes, gguf_weights
from parakit.checkpoints.gguf.tokenizer import convert_tokenizer
from parakit.checkpoints.gguf.tokenizer_export import tokenizer_metadata
from parakit.checkpoints.gguf.writer import TensorPlan, write_gguf
from parakit.checkpoints.mapping import Architecture, Head
from parakit.checkpoints.model_folder import head_of
from parakit.checkpoints.publisher import choose_architecture, publisher_of
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, write_json_atomic, write_text_atomic
from parakit.tokens.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from parakit.model.heads import TransformerModel

_QUANTIZATION_VERSION = 2
_LANGUAGE_MODEL = Head("language_model")


@dataclass(frozen=True)
class GGUFLayout:
    """How one model is written: its architecture here and in llama.cpp, its config.json, and its tensors."""

    architecture: Architecture
    exported: ExportedFamily
    config: JsonObject
    plans: tuple[TensorPlan, ...]


def gguf_layout(model: TransformerModel, file_type: GGUFType) -> GGUFLayout:
    """The layout of a model. Raises `UserError` for one that llama.cpp has no architecture for."""
    architecture = _exported_architecture(model)
    exported = EXPORTED[architecture.MODEL_TYPE]
    config = architecture.write_settings(model.config)
    published = ((t.hf_name, t.shape) for t in architecture.hf_tensors(model.config, _LANGUAGE_MODEL))
    shapes = list(gguf_shapes(GGUFNames(exported.tensors), published, exported.tensors).items())
    if (factors := rope_factors(config, exported)) is not None:
        shapes.insert(0, (ROPE_FACTORS, factors.shape))
    n_experts = getattr(model.config, "n_experts", 0) or 0
    plans = plan_tensors(shapes, file_type, model.config.n_layers, n_experts)
    return GGUFLayout(architecture, exported, config, tuple(plans))


def write_model(
    file: IO[bytes],
    model: TransformerModel,
    tokenizer: Tokenizer,
    file_type: GGUFType,
    about: Mapping[str, Any],
    *,
    with_template: bool,
) -> GGUFLayout:
    """Write a model and its tokenizer into an open file; `about` is metadata under its full keys (`general.name`).
    `with_template`: the chat template too. Raises `UserError` for what llama.cpp cannot compute or express.
    """
    layout = gguf_layout(model, file_type)
    name = layout.exported.name
    settings = layout.exported.metadata(layout.config)
    metadata: JsonObject = {
        "general.architecture": name,
        "general.type": "model",
        **about,
        "general.file_type": FILE_TYPES[file_type],
        "general.quantization_version": _QUANTIZATION_VERSION,
        **{f"{name}.{key}": value for key, value in settings.items()},
        **tokenizer_metadata(tokenizer, model.config.vocab_size, with_template),
    }
    data = (
        quantize(np.ascontiguousarray(values, np.float32), plan.kind)
        for plan, values in zip(layout.plans, _weights(model, layout), strict=True)
    )
    write_gguf(file, metadata, layout.plans, data)
    return layout


def load_gguf(path: str | Path) -> tuple[TransformerModel, Tokenizer]:
    """The model of a file, in float32 in memory, and its tokenizer. Errors as for `import_model`."""
    import torch

    file = read_gguf(path)
    name, family = family_of(file)
    metadata = ModelMetadata(file, name)
    hf_config = family.settings(metadata)
    metadata.check_all_read()
    architecture, head = registry.architecture_of(hf_config, path)
    config = architecture.read_settings(hf_config, path)
    model = weights.empty_model(config, head, torch.device("cpu"), torch.float32)
    filled = weights.fill_model(
        model,
        architecture,
        head,
        ((hf, torch.from_numpy(values)) for hf, values in published_tensors(file, family, hf_config)),
    )
    if missing := sorted({t.hf_name for t in architecture.hf_tensors(config, head)} - filled):
        raise UserError(
            f"{path}: lacks the tensor {missing[0]!r}", "the file is not complete: export it again"
        )
    converted = convert_tokenizer(file, metadata.integer("context_length"))
    with tempfile.TemporaryDirectory() as folder:
        write_json_atomic(Path(folder) / "config.json", hf_config | converted.generation)
        write_json_atomic(Path(folder) / "tokenizer.json", converted.tokenizer)
        write_json_atomic(Path(folder) / "tokenizer_config.json", converted.settings)
        if converted.chat_template is not None:
            write_text_atomic(Path(folder) / "chat_template.jinja", converted.chat_template)
        tokenizer = Tokenizer.load(folder)
    return model.eval(), tokenizer


def _exported_architecture(model: TransformerModel) -> Architecture:
    """The architecture that the model is saved as, or another that computes the same and that llama.cpp has."""
    head = head_of(model)
    if head != _LANGUAGE_MODEL:
        raise UserError(
            f"a GGUF file holds a decoder that predicts tokens, and this is a {head.kind.replace('_', ' ')}",
            "export a plain folder instead: parakit export MODEL --output FOLDER",
        )
    saved = choose_architecture(model.config, head, publisher_of(model))
    others = (registry.ARCHITECTURES[model_type] for model_type in EXPORTED)
    fitting = (one for one in others if registry.incompatibilities(one, model.config, head) == {})
    found = saved if saved.MODEL_TYPE in EXPORTED else next(fitting, None)
    if found is None:
        raise UserError(
            f"models of type {saved.MODEL_TYPE!r} are not exported to GGUF",
            f"those that are: {', '.join(EXPORTED)}; export a plain folder instead",
        )
    return found


def _weights(model: TransformerModel, layout: GGUFLayout) -> Iterator[np.ndarray]:
    """Float32 weights in the order of the layout's tensors."""
    import torch

    family = layout.exported.tensors
    if layout.plans[0].name == ROPE_FACTORS:
        factors = rope_factors(layout.config, layout.exported)
        assert factors is not None
        yield factors
    tensors = weights.export_tensors(model, layout.architecture, _LANGUAGE_MODEL, torch.float32)
    published = ((name, tensor.cpu().numpy()) for name, tensor in tensors)
    shapes = {plan.name: plan.shape for plan in layout.plans}
    names = (plan.name for plan in layout.plans if plan.name != ROPE_FACTORS)
    for name, (found, values) in zip(
        names, gguf_weights(GGUFNames(family), published, shapes, family, layout.config), strict=True
    ):
        assert name == found, (name, found)
        yield values
