"""Weights in several files with an index: written for transformers, read from it, and refused when one is missing or
cut; and what loading costs in memory.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from parakit.checkpoints import load_model, save_model
from parakit.checkpoints.architectures import qwen3
from parakit.checkpoints.mapping import Head
from parakit.checkpoints.safetensors_io import write_weight_shards
from parakit.checkpoints.weights import empty_model, export_tensors
from parakit.common import CorruptArtifact, Lineage, UserError
from parakit.model.config import DecoderConfig
from parakit.model.heads import LanguageModel
from tests.checkpoints.conformance import tensors_of

transformers = pytest.importorskip("transformers")

CONFIG = DecoderConfig(
    vocab_size=97, d_model=32, n_layers=3, n_heads=4, n_kv_heads=2, head_dim=8, d_ff=48, tie_embeddings=False
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = LanguageModel(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


@pytest.fixture
def shards(tmp_path, model):
    """A third-party folder in shards of at most 20 kB: no lineage, no manifest."""
    folder = save_model(model, None, tmp_path / "m", Lineage("model"), max_shard_bytes=20_000)
    for name in ("lineage.json", "manifest.json"):
        (folder / name).unlink()
    return folder


def test_shards_hold_what_one_file_would_and_no_more_than_asked(tmp_path, model, shards):
    save_model(model, None, tmp_path / "whole", Lineage("model"))
    index = json.loads((shards / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in shards.glob("*.safetensors"))
    n = len(files)
    assert n > 3
    assert files == [f"model-{i:05d}-of-{n:05d}.safetensors" for i in range(1, n + 1)]
    assert sorted(set(index["weight_map"].values())) == files
    whole, parts = tensors_of(tmp_path / "whole"), tensors_of(shards)
    assert whole.keys() == parts.keys() == index["weight_map"].keys()
    assert all(whole[name].numpy().tobytes() == parts[name].numpy().tobytes() for name in whole)
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in whole.values())
    assert index["metadata"]["total_parameters"] == CONFIG.n_params()["total"]
    for file in files:
        assert sum(t.nbytes for name, t in parts.items() if index["weight_map"][name] == file) <= 20_000
    assert not (shards / "model.safetensors").exists()


def test_transformers_loads_our_shards_and_we_do(model, shards):
    reference, report = transformers.AutoModelForCausalLM.from_pretrained(shards, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    actual, _ = load_model(shards)
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert torch.equal(actual(ids), model(ids))
        assert (actual(ids) - reference.eval()(ids).logits).abs().max() <= 1e-4


def test_a_tensor_larger_than_a_shard_has_one_of_its_own(tmp_path, model):
    folder = save_model(model, None, tmp_path / "m", Lineage("model"), max_shard_bytes=1)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) == len(index["weight_map"])
    assert torch.equal(load_model(folder)[0].lm_head.weight, model.lm_head.weight)


def test_a_missing_shard_is_named(shards):
    lost = sorted(shards.glob("*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(UserError, match=f"{lost.name}: no such file"):
        load_model(shards)


def test_a_shard_that_was_cut_is_named_with_both_sizes(shards):
    cut = sorted(shards.glob("*.safetensors"))[2]
    cut.write_bytes(cut.read_bytes()[:-5])
    with pytest.raises(CorruptArtifact, match=rf"{cut.name}: its tensors take \d+ bytes, and \d+ follow"):
        load_model(shards)


def test_an_index_that_promises_what_a_shard_lacks_is_refused(shards):
    index = shards / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["model.norm.bias"] = content["weight_map"]["model.norm.weight"]
    index.write_text(json.dumps(content))
    with pytest.raises(CorruptArtifact, match=r"lacks the tensor 'model.norm.bias'"):
        load_model(shards)


PEAK = """
import sys
from parakit.checkpoints import load_model
def highest():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
load_model(sys.argv[1])
for dtype in ("bfloat16", "float32"):
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the highest is what there is now
    before = highest()
    model = load_model(sys.argv[2], dtype=dtype)
    print(highest() - before)
    del model
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the highest memory from /proc")
def test_loading_takes_the_model_and_one_shard_of_memory(tmp_path, shards):
    config = DecoderConfig(
        vocab_size=1000,
        d_model=512,
        n_layers=8,
        n_heads=8,
        n_kv_heads=8,
        head_dim=64,
        d_ff=3584,
        max_seq_len=64,
    )
    n_bytes = config.n_params()["total"] * 4
    assert n_bytes > 200e6
    head = Head("language_model")
    model = empty_model(config, head, torch.device("cpu"), torch.float32)
    (tmp_path / "big").mkdir()
    settings = {"architectures": ["Qwen3ForCausalLM"], **qwen3.write_settings(config)}
    (tmp_path / "big/config.json").write_text(json.dumps(settings))
    write_weight_shards(export_tensors(model, qwen3, head, None), tmp_path / "big", 40_000_000)
    del model
    largest = max(path.stat().st_size for path in (tmp_path / "big").glob("*.safetensors"))
    assert largest < n_bytes / 5
    command = [sys.executable, "-c", PEAK, str(shards), str(tmp_path / "big")]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    for peak, size in zip(map(int, output), (n_bytes // 2, n_bytes), strict=True):
        assert size * 0.9 < peak < (size + largest) * 1.15
