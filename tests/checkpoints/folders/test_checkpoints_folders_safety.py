"""Booby-trapped folders: refused with the reason, and nothing fires."""

import json
import os
import pickle

import pytest
import torch

from parakit.checkpoints import load_model, save_model
from parakit.checkpoints.folder_safety import check_folder_safety
from parakit.common import Lineage, UserError
from parakit.model.config import DecoderConfig
from parakit.model.heads import LanguageModel

SHAPE = {
    "vocab_size": 20,
    "d_model": 8,
    "n_layers": 1,
    "n_heads": 2,
    "n_kv_heads": 1,
    "head_dim": 4,
    "d_ff": 8,
}


class Bomb:
    """Unpickling this writes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.fixture
def folder(tmp_path):
    """A valid third-party model folder: no lineage, no manifest."""
    path = save_model(LanguageModel(DecoderConfig(**SHAPE)), None, tmp_path / "m", Lineage("model"))
    (path / "lineage.json").unlink()
    (path / "manifest.json").unlink()
    return path


@pytest.fixture
def unpickled(monkeypatch):
    """Every unpickling, however it is requested."""
    calls = []
    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(module, name, lambda *a, _name=name, **k: calls.append(_name))
    return calls


def refusal(folder) -> str:
    with pytest.raises(UserError) as error:
        load_model(folder)
    assert error.value.hint
    return str(error.value)


def test_a_sound_folder_without_a_manifest_loads_without_unpickling(folder, unpickled):
    model, _ = load_model(folder)
    assert model.config.n_layers == 1
    assert unpickled == []


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "training_args.bin", "x.pt", "x.PTH", "x.pkl", "sub/x.pickle", "x.ckpt"]
)
def test_pickles_are_refused_and_not_read(folder, tmp_path, unpickled, name):
    (folder / "sub").mkdir()
    (folder / name).write_bytes(pickle.dumps(Bomb(tmp_path / "fired")))
    assert name in refusal(folder)
    assert unpickled == []
    assert not (tmp_path / "fired").exists()


@pytest.mark.parametrize(
    "name", ["tokenization_x.py", "modeling_x.py", "conftest.py", "sub/__init__.py", "fast.so"]
)
def test_code_is_refused_and_not_run(folder, tmp_path, name):
    (folder / "sub").mkdir()
    (folder / name).write_text(f"open({str(tmp_path / 'fired')!r}, 'w')")
    assert "program code" in refusal(folder)
    assert not (tmp_path / "fired").exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
def test_remote_code_is_refused(folder, name):
    settings = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
    (folder / name).write_text(json.dumps(settings | {"auto_map": {"AutoModelForCausalLM": "modeling_x.X"}}))
    assert "auto_map" in refusal(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "chat_template.jinja"])
def test_links_that_lead_out_are_refused(folder, tmp_path, name):
    if (folder / name).exists():
        os.rename(folder / name, tmp_path / name)
    else:
        (tmp_path / name).write_text("{}")
    (folder / name).symlink_to(tmp_path / name)
    assert "outside the model folder" in refusal(folder)


def test_a_linked_folder_that_leads_out_is_refused(folder, tmp_path):
    (folder / "sub").symlink_to(tmp_path)
    assert "outside the model folder" in refusal(folder)


def test_a_link_inside_the_folder_is_fine(folder):
    os.rename(folder / "model.safetensors", folder / "weights.safetensors")
    (folder / "model.safetensors").symlink_to("weights.safetensors")
    load_model(folder)


def test_a_pipe_does_not_hang_us(folder):
    os.mkfifo(folder / "tokenizer.json")
    assert "not a plain file" in refusal(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "[" * 100_000, '{"model_type": ["qwen3"]}', '{"model_type": {}}', "\x00"]
)
def test_a_broken_config_is_refused_by_name(folder, text):
    (folder / "config.json").write_text(text)
    assert "config.json" in refusal(folder)


def test_what_we_write_passes_our_own_check(tmp_path):
    check_folder_safety(
        save_model(LanguageModel(DecoderConfig(**SHAPE)), None, tmp_path / "m", Lineage("model"), card="# hi")
    )
