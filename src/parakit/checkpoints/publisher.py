"""What a loaded folder says beyond shape and weights, carried with the model and written again when it is saved.

A folder's `config.json` has keys that Parakit does not need (dropout, history, other engines' settings), its
`generation_config.json` a publisher's defaults, its weights a pooler that no head uses. `Publisher` keeps all of it as it
was read, together with what Parakit itself would have written for that folder. Saving repeats the publisher's files and
changes only what has changed since: where Parakit would write another value than before, the new one is written. A model
that was trained further, merged or given another head so keeps the rest; a folder that was only loaded is written as it
was. Stages carry it with `carry_publisher` where they build a new model from a loaded one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parakit.checkpoints import mxfp4, registry
from parakit.checkpoints.config_equivalence import config_diff
from parakit.checkpoints.generation_settings import (
    GENERATION_KEYS,
    generation_in_config,
)
from parakit.checkpoints.hf_config import IGNORED_KEYS, is_bookkeeping
from parakit.checkpoints.mapping import Architecture, Head
from parakit.checkpoints.safetensors_io import TensorEntry, folder_tensors, read_tensors
from parakit.checkpoints.sentence_encoders.pooling_files import PROMPTS, read_sentence_files, with_activation
from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.files import JsonObject, apply_changes
from parakit.model.config import EmbedderConfig, EncoderDecoderConfig, ModelConfig

if TYPE_CHECKING:
    import torch

    from parakit.model.heads import TransformerModel
    from parakit.tokens.tokenizer.tokenizer import Tokenizer

_ATTRIBUTE = "_publisher"
_LABELS = frozenset({"id2label", "label2id", "num_labels", "_num_labels", "problem_type"})
_SINES = ".embed_positions.weight"
# Tensors without a use here, that other programs have a use for: BERT's pooler, its head for next sentences, and the
# tables of sines that Pegasus stores.
_KEPT_TENSORS = frozenset(
    {
        *(
            f"{layer}.{kind}"
            for layer in ("pooler.dense", "cls.seq_relationship")
            for kind in ("weight", "bias")
        ),
        *(side + _SINES for side in ("encoder", "decoder")),
    }
)


_BARE = Head("embedder", pooling=EmbedderConfig())


@dataclass(frozen=True)
class Publisher:
    """The files of a loaded folder, and what Parakit would have written in their place."""

    head: Head
    config: JsonObject
    written_config: JsonObject
    generation: JsonObject
    written_generation: JsonObject
    tensors: Mapping[str, torch.Tensor]
    """Without the prefix of the trunk: `pooler.dense.weight`."""
    sentence_files: Mapping[str, Any] = field(default_factory=dict)
    """Files of sentence-transformers, parsed."""
    folder: Path = Path()
    """Where they were read, for messages."""


def publisher_of(model: TransformerModel) -> Publisher | None:
    """What came with a model that was loaded from a folder; None for a new one."""
    return getattr(model, _ATTRIBUTE, None)


def set_publisher(model: TransformerModel, publisher: Publisher | None) -> None:
    """Attach `publisher`, so that `save_model` writes it."""
    setattr(model, _ATTRIBUTE, publisher)


def carry_publisher(source: TransformerModel, target: TransformerModel) -> None:
    """A model built from a loaded one keeps what its publisher set."""
    set_publisher(target, publisher_of(source))


def set_generation(model: TransformerModel, key: str, value: object) -> None:
    """Change one of the publisher's generation settings, which a new model has none of."""
    if (publisher := publisher_of(model)) is not None:
        settings = publisher.generation or generation_in_config(publisher.config)
        set_publisher(model, replace(publisher, generation={**settings, key: value}))


def choose_architecture(config: ModelConfig, head: Head, publisher: Publisher | None) -> Architecture:
    """The architecture that the model was loaded as, while it computes the model; else as `registry.saving_architecture`."""
    published = registry.ARCHITECTURES.get(publisher.config["model_type"]) if publisher else None
    fits = published is not None and registry.head_name(head) in published.CLASSES
    if published is not None and fits and registry.incompatibilities(published, config, head) == {}:
        return published
    return registry.saving_architecture(config, head)


def config_json(
    architecture: Architecture, config: ModelConfig, head: Head, dtype: str, tokenizer: Tokenizer | None
) -> JsonObject:
    """A config.json as Parakit writes it for a model of its own."""
    settings = architecture.write_settings(config)
    written = {
        "architectures": [registry.class_name(architecture, head)],
        **settings,
        **registry.write_labels(architecture, head),
        **dict.fromkeys(("dtype", "torch_dtype"), dtype),
        **_special_ids(tokenizer),
    }
    if settings.get("pad_token_id") is not None:  # positions are counted from it (RoBERTa)
        written["pad_token_id"] = settings["pad_token_id"]
    return written


def generation_json(config: ModelConfig, tokenizer: Tokenizer | None) -> JsonObject:
    """A generation_config.json as Parakit writes it: the ids that begin a text, and those that end a completion, which are
    the end of the text and the end of a turn where the tokenizer has one.
    """
    start = (
        {"decoder_start_token_id": config.decoder_start_id}
        if isinstance(config, EncoderDecoderConfig)
        else {}
    )
    if tokenizer is None:
        return start
    stops = [
        token_id for token_id in (tokenizer.eos_id, tokenizer.turn_ids.get("end")) if token_id is not None
    ]
    return {**_special_ids(tokenizer), **start, **({"eos_token_id": stops} if stops else {})}


def saved_config(
    publisher: Publisher | None,
    written: JsonObject,
    architecture: Architecture,
    config: ModelConfig,
    head: Head,
) -> JsonObject:
    """The config.json of a model to save; `written` is Parakit's own."""
    merged = written
    if publisher is not None:
        merged = apply_changes(publisher.config, publisher.written_config, written)
        if head != publisher.head:
            labels = {key: written[key] for key in _LABELS & written.keys()}
            merged = {key: value for key, value in merged.items() if key not in _LABELS} | labels
        merged.setdefault("architectures", written["architectures"])
        if head.kind == "embedder" and other_heads(merged, architecture, config):
            merged["architectures"] = written["architectures"]
        files = publisher.sentence_files if head == publisher.head else {}
        if not _reads_back(with_activation(merged, files.get(PROMPTS)), architecture, config, head):
            merged = {k: v for k, v in publisher.config.items() if _is_harmless(k)} | written
    merged = {key: value for key, value in merged.items() if key != mxfp4.KEY}  # weights are saved plain
    if pads_rows(config, head):
        merged = merged | _row_padding(merged, written)
    return merged


def pads_rows(config: ModelConfig, head: Head) -> bool:
    """Whether transformers needs a PAD for batches: its classifiers on decoders find the last token of a row by it."""
    return config.family == "decoder" and head.kind in ("classifier", "reward_model")


def saved_generation(publisher: Publisher | None, written: JsonObject) -> JsonObject:
    """The generation_config.json of a model to save. A stop token that training added is added to the publisher's."""
    if publisher is None:
        return written
    if not publisher.generation:
        found = generation_in_config(publisher.config)
        return {**written, **{key: value for key, value in found.items() if key != "eos_token_id"}} | (
            {"eos_token_id": found["eos_token_id"]}
            if "eos_token_id" in found and written == publisher.written_generation
            else {}
        )
    merged = apply_changes(publisher.generation, publisher.written_generation, written)
    before, now = (_as_list(source.get("eos_token_id")) for source in (publisher.generation, written))
    if before and publisher.written_generation.get("eos_token_id") != written.get("eos_token_id"):
        merged["eos_token_id"] = [*before, *(token_id for token_id in now if token_id not in before)]
    return merged


def sentence_files(publisher: Publisher | None, head: Head) -> tuple[Mapping[str, Any], bool]:
    """The files of sentence-transformers that a model came with, and whether they describe the `head` to save."""
    return ({}, False) if publisher is None else (publisher.sentence_files, publisher.head == head)


def kept_entries(folder: Path, architecture: Architecture) -> dict[str, TensorEntry]:
    """The tensors of a folder that no head of Parakit uses and that are kept; names without the trunk's prefix."""
    entries = (
        (name.removeprefix(architecture.PREFIX), entry) for name, entry in folder_tensors(folder).items()
    )
    return {
        name: entry for name, entry in entries if name in _KEPT_TENSORS and architecture.is_ignorable(name)
    }


def read_publisher(
    folder: Path,
    hf_config: JsonObject,
    generation: JsonObject,
    architecture: Architecture,
    config: ModelConfig,
    head: Head,
    *,
    dtype: str,
    tokenizer: Tokenizer | None,
) -> Publisher:
    """What a folder says beyond shape and weights. `dtype` is that of most of its weights."""
    kept = {name: tensor.clone() for name, tensor in read_tensors(kept_entries(folder, architecture))}
    _check_sines(kept, config, folder)
    return Publisher(
        head=head,
        config=hf_config,
        written_config=config_json(architecture, config, head, dtype, tokenizer),
        generation=generation,
        written_generation=generation_json(config, tokenizer),
        tensors=kept,
        sentence_files=read_sentence_files(folder),
        folder=folder,
    )


def other_heads(hf_config: JsonObject, architecture: Architecture, config: ModelConfig) -> set[str]:
    """The tensors that the class in config.json has beyond the trunk, by their names in a file."""
    bare = {tensor.hf_name for tensor in architecture.hf_tensors(config, _BARE)}
    try:
        _, head = registry.architecture_of(hf_config, "config.json")
        names = {tensor.hf_name for tensor in architecture.hf_tensors(config, head)}
    except UserError:  # a class that Parakit does not load
        return {"unknown"}
    return {name for name in names if name.removeprefix(architecture.PREFIX) not in bare}


def _check_sines(kept: Mapping[str, torch.Tensor], config: ModelConfig, folder: Path) -> None:
    """Refuse stored positions that are not the sines which the settings name, and which Parakit computes."""
    from parakit.model.layers.positions import SinusoidalPositions

    for name, stored in kept.items():
        if name.endswith(_SINES) and isinstance(config, EncoderDecoderConfig):
            table = SinusoidalPositions(len(stored), config.d_model).table
            rounding = 0.01  # of float16 and bfloat16
            if stored.shape != table.shape or not (stored.float() - table).abs().max() <= rounding:
                raise CorruptArtifact(
                    f"{folder}: the stored tensor {name!r} holds other values than the sines that its config.json names",
                    "the weights belong to another model: fetch the folder again",
                )


def kept_parameters(
    source: TransformerModel, target: TransformerModel, head: Head
) -> dict[str, torch.Tensor]:
    """Parameters of `target`, whose head is `head` -> the tensors for them that `source` was loaded with and has no use
    for: the pooler of a BERT, through which a classifier reads.
    """
    publisher = publisher_of(source)
    if publisher is None or not publisher.tensors:
        return {}
    architecture = choose_architecture(target.config, head, publisher)
    if publisher.config["model_type"] != architecture.MODEL_TYPE:
        return {}
    named = (
        (t.hf_name.removeprefix(architecture.PREFIX), t) for t in architecture.hf_tensors(target.config, head)
    )
    return {
        t.slices[0].name: publisher.tensors[name]
        for name, t in named
        if name in publisher.tensors and publisher.tensors[name].shape == t.shape
    }


def kept_tensors(
    publisher: Publisher | None,
    architecture: Architecture,
    head: Head,
    names: Iterable[str],
    dtype: torch.dtype | None,
) -> dict[str, torch.Tensor]:
    """The kept tensors to write next to the tensors `names`: those of the trunk, and those of the head it was loaded with."""
    if publisher is None or publisher.config["model_type"] != architecture.MODEL_TYPE:
        return {}
    prefix, taken, kept = "" if head.kind == "embedder" else architecture.PREFIX, set(names), {}
    for name, tensor in publisher.tensors.items():
        in_trunk = not name.startswith("cls.")
        full = prefix + name if in_trunk else name
        if taken.isdisjoint((full, name)) and (in_trunk or head.kind == publisher.head.kind):
            kept[full] = tensor if dtype is None else tensor.to(dtype)
    return kept


def _reads_back(merged: JsonObject, architecture: Architecture, config: ModelConfig, head: Head) -> bool:
    """Whether `merged` says what `config` and `head` are."""
    where = "config.json"
    merged = registry.as_embedder(merged, where) if head.kind == "embedder" else merged
    try:
        other, read_head = registry.architecture_of(merged, where)
        reread = architecture.read_settings(merged, where)
    except UserError:
        return False
    stored = {tensor.hf_name for tensor in architecture.hf_tensors(config, head)}
    same_head = read_head.kind == head.kind and read_head.classes == head.classes
    return (
        other is architecture
        and same_head
        and not config_diff(config, registry.finalize(architecture, reread, stored))
    )


def _is_harmless(key: str) -> bool:
    return key in IGNORED_KEYS | GENERATION_KEYS or is_bookkeeping(key)


def _row_padding(hf_config: JsonObject, written: JsonObject) -> JsonObject:
    """EOS fills the rows of a batch where a model has no PAD."""
    stops = _as_list(written.get("eos_token_id")) or _as_list(hf_config.get("eos_token_id"))
    if hf_config.get("pad_token_id") is None and stops:
        return {"pad_token_id": stops[0]}
    return {}


def _as_list(ids: Any) -> list[int]:
    if ids is None:
        return []
    return list(ids) if isinstance(ids, list) else [ids]


def _special_ids(tokenizer: Tokenizer | None) -> dict[str, int | None]:
    """Token ids that inference engines read from config.json; empty without a tokenizer."""
    if tokenizer is None:
        return {}
    return {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": tokenizer.pad_id,
    }
