"""The base model that an adapter belongs to: its folder, and how to recognise it. Never imports torch.

An adapter that Parakit wrote identifies its base by digest, or by the sha256 of its weights where the base has no
lineage; for a third-party adapter only names and shapes can be checked.
"""

from __future__ import annotations

from pathlib import Path

from parakit.checkpoints.folder_safety import is_model_folder, read_small_json, regular_file
from parakit.common.artifacts import LINEAGE, open_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, sha256_file

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BASE = "base_model_name_or_path"


def is_adapter_folder(path: str | Path) -> bool:
    """True for a folder with `adapter_config.json` that is no model by itself."""
    return (Path(path) / CONFIG).is_file() and not is_model_folder(path)


def require_full_model(path: str | Path, what: str) -> None:
    """`UserError` for an adapter where `what`, such as "tuning", needs a full model."""
    if is_adapter_folder(path):
        raise UserError(
            f"{path}: is an adapter, but {what} starts from a model",
            f"merge it into its base first: parakit merge {path} --output FOLDER",
        )


def base_folder(folder: str | Path) -> Path:
    """The base's folder as `adapter_config.json` names it: an absolute path, or one relative to the adapter's folder
    or to the working directory. `UserError` where there is no model.
    """
    folder = Path(folder)
    name = read_small_json(regular_file(folder, CONFIG)).get(BASE)
    if not isinstance(name, str) or not name:
        raise UserError(
            f"{folder / CONFIG}: names no {BASE}", f"write the path of the base's folder there as {BASE}"
        )
    for path in (folder / name, Path(name)):  # `/` keeps an absolute right-hand side as it is
        if is_model_folder(path):
            return path
    raise UserError(
        f"{folder}: was tuned on {name}, but there is no model folder there",
        f"put the base there, or write where it is into {CONFIG} as {BASE}"
        " (a model of the hub is fetched by `parakit import ORG/NAME --output FOLDER`)",
    )


def base_fingerprint(base: Path) -> JsonObject:
    """What an adapter's lineage records about its base."""
    if (base / LINEAGE).is_file():
        return {"digest": open_artifact(base, verify=False).digest}
    return {"sha256": {path.name: sha256_file(path) for path in sorted(base.glob("*.safetensors"))}}


def check_adapter_base(folder: Path, lineage: JsonObject, base: Path) -> None:
    """`UserError` naming both where the adapter was tuned on another model than `base`."""
    recorded = (lineage.get("config") or {}).get("base")
    if not isinstance(recorded, dict):
        return
    actual = base_fingerprint(base)
    if any(recorded.get(key) != actual.get(key) for key in recorded.keys() & {"digest", "sha256"}):
        first, other = (
            str(one.get("digest") or "weights without lineage")[:12] for one in (recorded, actual)
        )
        raise UserError(
            f"{folder}: this adapter was tuned on the model {first} ({recorded.get('path')}), and {base} holds {other}",
            "name the base that it was tuned on; on another its weights are meaningless",
        )
