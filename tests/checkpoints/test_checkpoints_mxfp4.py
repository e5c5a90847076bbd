"""Experts in MXFP4, as gpt-oss publishes them: read as transformers reads them, saved as plain weights, refused where they
do not fit.
"""

import json
import re

import pytest
import torch

from parakit.checkpoints import load_model, parameter_counts, save_model
from parakit.checkpoints.architectures import gpt_oss
from parakit.common import Lineage, UserError
from tests.checkpoints.conformance import random_ids, reference_model, saved, tensors_of

transformers = pytest.importorskip("transformers")

SIZES = {
    **{"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "intermediate_size": 64, "max_position_embeddings": 64, "head_dim": 8},
    **{"num_local_experts": 3, "num_experts_per_tok": 2, "sliding_window": 8},
}
EXPERTS = "model.layers.0.mlp.experts."


@pytest.fixture
def packed(tmp_path):
    """A folder whose experts are blocks and scales of random bits, and transformers' reading of each matrix."""
    from safetensors.torch import save_file
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    model = reference_model(transformers.GptOssForCausalLM, transformers.GptOssConfig(**SIZES))
    folder = saved(model.to(torch.bfloat16), tmp_path / "f")
    tensors, reference = tensors_of(folder), {}
    generator = torch.Generator().manual_seed(5)
    for name in (f"{EXPERTS}gate_up_proj", f"{EXPERTS}down_proj"):
        n, inputs, outputs = tensors.pop(name).shape
        blocks = torch.randint(0, 256, (n, outputs, inputs // 32, 16), generator=generator, dtype=torch.uint8)
        scales = torch.randint(118, 127, (n, outputs, inputs // 32), generator=generator, dtype=torch.uint8)
        tensors |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
        reference[name] = convert_moe_packed_tensors(blocks, scales)
    _write(folder, tensors, save_file)
    return folder, reference


def _write(folder, tensors, save_file):
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.long
def test_they_are_read_as_transformers_reads_them_and_saved_plain(packed, tmp_path):
    folder, reference = packed
    model, _ = load_model(folder)
    assert model.lm_head.weight.dtype == torch.bfloat16
    assert parameter_counts(folder)["total"] == sum(p.numel() for p in model.parameters())
    save_model(model, None, tmp_path / "g", Lineage("model"))
    tensors, config = tensors_of(tmp_path / "g"), json.loads((tmp_path / "g" / "config.json").read_text())
    for name, values in reference.items():
        assert torch.equal(tensors[name], values)
    assert "quantization_config" not in config
    again = transformers.GptOssForCausalLM.from_pretrained(tmp_path / "g", dtype="float32")
    again.set_attn_implementation("eager")
    ids = random_ids(64, 2, 9)
    with torch.no_grad():
        assert (load_model(folder, dtype="float32")[0](ids) - again(ids).logits).abs().max() < 1e-4


@pytest.mark.long
def test_a_tensor_that_does_not_fit_is_named(packed):
    from safetensors.torch import save_file

    folder, _ = packed
    tensors = tensors_of(folder)
    name = f"{EXPERTS}down_proj_scales"
    _write(folder, tensors | {name: tensors[name][:, :, :1].contiguous()}, save_file)
    with pytest.raises(UserError, match=re.escape(name)):
        load_model(folder)
    _write(folder, {key: value for key, value in tensors.items() if key != name}, save_file)
    with pytest.raises(UserError, match=re.escape(name.removesuffix("_scales"))):
        load_model(folder)


def test_another_quantization_is_refused():
    config = SIZES | {"model_type": "gpt_oss", "quantization_config": {"quant_method": "awq"}}
    with pytest.raises(UserError, match="quantized weights; of these Parakit reads mxfp4"):
        gpt_oss.read_settings(config, "config.json")
