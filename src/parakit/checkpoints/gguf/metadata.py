"""The settings of a model in a GGUF file's metadata, each read once and checked.

A key that nothing has read at the end may change what the model computes, and is an error, as in a `config.json`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from parakit.checkpoints.gguf.reader import GGUFFile
from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.files import JsonObject

# Without effect on the logits, or already applied to the weights.
_IGNORED = {"rope.scaling.finetuned", "tensor_data_layout", "pooling_type", "vocab_size"}
# key -> the values under which it has no effect
_WITHOUT_EFFECT: dict[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "attention.clamp_kqv": (0.0,),
    "attention.max_alibi_bias": (0.0,),
    "attention.sliding_window": (0,),
    "rope.scaling.attn_factor": (1.0,),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "expert_shared_count": (0,),
    "expert_weights_scale": (0.0, 1.0),
    "expert_gating_func": (1,),  # softmax
    "leading_dense_block_count": (0,),
    "logit_scale": (0.0, 1.0),
}
# setting under transformers' name in generation_config.json (and Parakit's) -> key of the file
SAMPLING = {
    "temperature": "general.sampling.temp",
    "top_k": "general.sampling.top_k",
    "top_p": "general.sampling.top_p",
    "min_p": "general.sampling.min_p",
    "repetition_penalty": "general.sampling.penalty_repeat",
}
_HINT = "the file is damaged or incomplete: fetch it again"


def sampling_settings(file: GGUFFile) -> JsonObject:
    """How the publisher samples, as generation_config.json has it; empty where the file does not say."""
    found = {name: file.metadata[key] for name, key in SAMPLING.items() if key in file.metadata}
    return found | ({"do_sample": found.get("temperature") != 0.0} if found else {})


class ModelMetadata:
    """Access to `ARCHITECTURE.key` of a file, which remembers what was read."""

    def __init__(self, file: GGUFFile, architecture: str) -> None:
        self.file, self.architecture = file, architecture
        self._read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key as it is in the file."""
        self._read.add(key)
        return self.file.metadata.get(f"{self.architecture}.{key}", default)

    def integer(self, key: str, default: int | None = None) -> int:
        """A count; one for each layer is accepted where all are equal."""
        value = self.get(key, default)
        if isinstance(value, list) and value:
            if any(one != value[0] for one in value):
                raise UserError(
                    f"{self.file.path}: `{self.architecture}.{key}` differs from layer to layer: {value[:8]!r}",
                    "Parakit's layers are of one size: choose another model",
                )
            value = value[0]
        if type(value) is not int or not 0 <= value < 2**31:
            raise self._fault(key, value, "a count")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number."""
        value = self.get(key, default)
        if type(value) not in (int, float) or not abs(value) < float("inf"):
            raise self._fault(key, value, "a number")
        return float(value)

    def check_all_read(self, accepted: Iterable[str] = ()) -> JsonObject:
        """Refuse settings that nothing has read, unless they have no effect or the user accepts them; the accepted ones
        with their values. Raises `UserError` naming all of them.
        """
        prefix, wanted = f"{self.architecture}.", set(accepted)
        unknown = {
            key: value
            for key, value in self.file.metadata.items()
            if key.startswith(prefix)
            and key.removeprefix(prefix) not in self._read | _IGNORED
            and value not in _WITHOUT_EFFECT.get(key.removeprefix(prefix), ())
        }
        if wrong := sorted(wanted - unknown.keys()):
            raise UserError(
                f"--accept-config {' '.join(wrong)}: {self.file.path} has no such unknown key",
                "remove it; only metadata that Parakit does not know is accepted by name",
            )
        if refused := [key for key in unknown if key not in wanted]:
            listed = ", ".join(f"`{key}` = {str(unknown[key])[:60]}" for key in refused)
            raise UserError(
                f"{self.file.path}: has settings that Parakit does not know for {self.architecture}, and that may "
                f"change what the model computes: {listed}",
                f"without effect on the model? Then import it with --accept-config {' '.join(refused)}",
            )
        return unknown

    def _fault(self, key: str, value: Any, wanted: str) -> CorruptArtifact:
        what = "is absent" if value is None else f"is {value!r}"
        return CorruptArtifact(f"{self.file.path}: `{self.architecture}.{key}` {what}, not {wanted}", _HINT)
