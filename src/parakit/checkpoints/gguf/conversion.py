"""A GGUF file as a temporary Hugging Face folder, which is then imported as any other.

The weights are dequantized to float32; the settings, tokenizer, chat template and stop tokens come from the metadata.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from parakit.checkpoints.generation_settings import GENERATION
from parakit.checkpoints.gguf.families import family_of
from parakit.checkpoints.gguf.metadata import ModelMetadata, sampling_settings
from parakit.checkpoints.gguf.reader import read_gguf
from parakit.checkpoints.gguf.tensors import published_tensors
from parakit.checkpoints.gguf.tokenizer import convert_tokenizer
from parakit.checkpoints.model_folder import read_settings
from parakit.checkpoints.safetensors_io import write_weight_shards
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, disk_errors, write_json_atomic, write_text_atomic
from parakit.common.locks import partial_folder
from parakit.model.config import ModelConfig

_SHARD_BYTES = 5_000_000_000


@dataclass(frozen=True)
class ConvertedGGUF:
    """The folder, how many tensors each quantization has, what the file says about itself, and the names of metadata
    that the folder does not keep, and that the user accepted.
    """

    folder: Path
    quantization: dict[str, int]
    about: JsonObject
    dropped: tuple[str, ...]
    accepted: JsonObject


def read_gguf_config(source: str | Path, accept_config: Sequence[str] = ()) -> ModelConfig:
    """The config of the model in a GGUF file, from its metadata alone. Raises `UserError` as `converted_gguf`."""
    file = read_gguf(source)
    architecture, family = family_of(file)
    config = family.settings(ModelMetadata(file, architecture))
    with tempfile.TemporaryDirectory() as folder:
        write_json_atomic(Path(folder) / "config.json", config)
        return read_settings(Path(folder), accept_config)[1]


@contextmanager
def converted_gguf(
    source: str | Path, output: Path, accept_config: Sequence[str] = ()
) -> Iterator[ConvertedGGUF]:
    """The file `source` as a folder, for the block; it is made next to `output`, on the disk of the result, and removed
    afterwards; the caller holds the lock of `output`. `accept_config`: metadata that the user knows to be harmless.
    Raises `UserError` for a file that is damaged or that holds what Parakit does not support.
    """
    file = read_gguf(source)
    architecture, family = family_of(file)
    metadata = ModelMetadata(file, architecture)
    config = family.settings(metadata)
    accepted = metadata.check_all_read(accept_config)
    tokenizer = convert_tokenizer(file, metadata.integer("context_length"))
    folder = partial_folder(output)
    try:
        with disk_errors(output):
            write_json_atomic(folder / "config.json", config | {"dtype": "float32"} | tokenizer.generation)
            write_json_atomic(folder / GENERATION, tokenizer.generation | sampling_settings(file))
            write_json_atomic(folder / "tokenizer.json", tokenizer.tokenizer)
            write_json_atomic(folder / "tokenizer_config.json", tokenizer.settings)
            if tokenizer.chat_template is not None:
                write_text_atomic(folder / "chat_template.jinja", tokenizer.chat_template)
            _write_weights(published_tensors(file, family, config), folder)
        yield ConvertedGGUF(
            folder,
            dict(Counter(tensor.kind for tensor in file.tensors.values()).most_common()),
            {
                key.removeprefix("general."): value
                for key, value in file.metadata.items()
                if key.startswith("general.") and isinstance(value, str)
            },
            tokenizer.dropped,
            accepted,
        )
    except UserError as error:  # the folder is gone when the message is read
        raise type(error)(error.message.replace(str(folder), str(source)), error.hint) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_weights(tensors: Iterator[tuple[str, object]], folder: Path) -> None:
    import numpy as np
    import torch

    def as_torch() -> Iterator[tuple[str, torch.Tensor]]:
        for name, weights in tensors:
            assert isinstance(weights, np.ndarray)
            yield name, torch.from_numpy(np.ascontiguousarray(weights))

    write_weight_shards(as_torch(), folder, _SHARD_BYTES)
