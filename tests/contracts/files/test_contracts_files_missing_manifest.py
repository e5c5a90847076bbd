"""What Parakit wrote is never read unverified: without its manifest, or with a changed file, it is refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from parakit.checkpoints.loading import load_model
from parakit.common.errors import CorruptArtifact, UserError
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from tests.alignment.tiny_chat_model import chat_model_folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_model_folder(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "model")


def test_a_model_without_its_manifest_is_refused_and_the_way_out_helps(model: Path) -> None:
    (model / "manifest.json").unlink()
    with pytest.raises(
        CorruptArtifact, match=r"manifest\.json: is missing, so the files of this model cannot"
    ) as caught:
        load_model(model)
    assert "delete lineage.json" in caught.value.hint
    (model / "lineage.json").unlink()
    load_model(model)


def test_a_model_without_its_lineage_is_refused(model: Path) -> None:
    (model / "lineage.json").unlink()
    with pytest.raises(CorruptArtifact, match=r"lineage\.json: is missing"):
        load_model(model)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_the_tokenizer_of_a_model_is_verified_without_its_weights(name: str, model: Path) -> None:
    before = Tokenizer.load(model).digest
    content = (model / name).read_text()
    (model / "model.safetensors").write_bytes(b"not read here")
    assert Tokenizer.load(model).digest == before
    (model / name).write_text(content.replace("1", "2"))
    with pytest.raises(CorruptArtifact, match=name):
        Tokenizer.load(model)
    (model / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: is missing|holds no tokenizer"):
        Tokenizer.load(model)


def test_what_is_verified_is_what_is_loaded(model: Path, saved: Path) -> None:
    one, other = (load_model(folder)[0].state_dict() for folder in (model, saved))
    assert all(torch.equal(one[name], other[name]) for name in one)
