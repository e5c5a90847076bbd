"""Which base an adapter belongs to: where it lies, and how it is known again. Never imports torch.

An adapter that Parakit wrote names its base by digest, or by the sha256 of its weights where the base has no lineage;
another's can only be checked by names and shapes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parakit.checkpoints.folder_safety import is_model_folder, read_small_json, regular_file
from parakit.common.artifacts import LINEAGE, open_artifact
from parakit.common.errors import UserError
from parakit.common.files import sha256_file

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BASE = "base_model_name_or_path"


def is_adapter_folder(path: str | Path) -> bool:
    """True where `adapter_config.json` lies in a folder that is no model by itself."""
    return (Path(path) / CONFIG).is_file() and not is_model_folder(path)


def require_full_model(path: str | Path, what: str) -> None:
    """Refuse an adapter where only a whole model will do: for `what`, such as "tuning"."""
    if is_adapter_folder(path):
        raise UserError(
            f"{path}: is an adapter, and {what} starts from a model",
            f"merge it into its base first: parakit merge {path} --output FOLDER",
        )


def base_folder(folder: str | Path) -> Path:
    """The base's folder as `adapter_config.json` names it: an absolute path, or one relative to the adapter's folder
    or to where the command runs. `UserError` where there is no model.
    """
    folder = Path(folder)
    named = read_small_json(regular_file(folder, CONFIG)).get(BASE)
    if not isinstance(named, str) or not named:
        raise UserError(
            f"{folder / CONFIG}: names no {BASE}", f"write the path of the base's folder there as {BASE}"
        )
    for place in (folder / named, Path(named)):  # an absolute path stays what it is behind a slash
        if is_model_folder(place):
            return place
    raise UserError(
        f"{folder}: was tuned on {named}, and there is no model folder there",
        f"put the base there, or write where it is into {CONFIG} as {BASE}"
        " (a model of the hub is fetched by `parakit import ORG/NAME --output FOLDER`)",
    )


def identity(base: Path) -> dict[str, Any]:
    """What an adapter's lineage keeps about its base."""
    if (base / LINEAGE).is_file():
        return {"digest": open_artifact(base, verify=False).digest}
    return {"sha256": {path.name: sha256_file(path) for path in sorted(base.glob("*.safetensors"))}}


def check_identity(folder: Path, lineage: dict[str, Any], base: Path) -> None:
    """`UserError` naming both where the adapter was tuned on another model than `base`."""
    known = (lineage.get("config") or {}).get("base")
    if not isinstance(known, dict):
        return
    found = identity(base)
    if any(known.get(key) != found.get(key) for key in known.keys() & {"digest", "sha256"}):
        said, other = (str(one.get("digest") or "weights without lineage")[:12] for one in (known, found))
        raise UserError(
            f"{folder}: this adapter was tuned on the model {said} ({known.get('path')}), and {base} holds {other}",
            "name the base that it was tuned on; on another its numbers mean nothing",
        )
