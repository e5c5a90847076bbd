"""Folders of quantized models in the layout of compressed-tensors: transformers computes the same from them, and folders that
the library itself wrote are read.
"""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from parakit.checkpoints import load_model, parameter_counts, read_config, save_model
from parakit.common import Lineage
from parakit.common.errors import CorruptArtifact, UserError
from parakit.model.quantized import QuantScheme, make_plan, quantize_modules, quantized_modules
from tests.checkpoints.conformance import random_ids, reference_model, saved

transformers = pytest.importorskip("transformers")
compressed_tensors = pytest.importorskip("compressed_tensors")

INT8 = QuantScheme(bits=8)
INT4 = QuantScheme(bits=4, quant_group_size=32)
INT4_ZEROS = QuantScheme(bits=4, quant_group_size=32, symmetric=False)
SHAPE = {"vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
SHAPE |= {"intermediate_size": 96, "max_position_embeddings": 64, "pad_token_id": 0, "eos_token_id": 1}


@pytest.fixture(autouse=True)
def _exact_products(monkeypatch):
    """The compiled kernels round inputs to 15 bits, which would hide what the layout itself changes."""
    monkeypatch.setenv("PARAKIT_KERNELS", "off")


def llama_folder(tmp_path, **changes):
    config = transformers.LlamaConfig(**SHAPE | {"tie_word_embeddings": True} | changes)
    return saved(reference_model(transformers.LlamaForCausalLM, config, spread=0.05), tmp_path / "plain")


def quantized_folder(tmp_path, scheme, embeddings=None, head=None, name="quantized", **changes):
    """A quantized model and its folder."""
    model, _ = load_model(llama_folder(tmp_path, **changes))
    quantize_modules(model, make_plan(model, scheme, embeddings=embeddings, head=head))
    return model, save_model(model, None, tmp_path / name, Lineage("model"))


def edit_config(folder, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"] |= changes
    path.write_text(json.dumps(config))


def edit_tensors(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


CASES = {
    "int8 all": (INT8, INT8, None, True),
    "int4 all": (INT4, INT4, None, True),
    "int4 with zeros": (INT4_ZEROS, INT4_ZEROS, None, True),
    "int4, plain embedding": (INT4, None, None, True),
    "int4, untied, all": (INT4, INT4, INT4, False),
    "int4 rows": (QuantScheme(bits=4), None, None, True),
    "int8 groups, int8 head": (QuantScheme(bits=8, quant_group_size=32), None, INT8, False),
}


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_transformers_and_parakit_load_what_was_saved(case, tmp_path):
    scheme, embeddings, head, tied = CASES[case]
    model, folder = quantized_folder(tmp_path, scheme, embeddings, head, tie_word_embeddings=tied)
    ids = random_ids(97, 2, 12)
    logits = model(ids)
    loaded, _ = load_model(folder)
    assert torch.equal(loaded(ids), logits)
    assert {n: m.scheme for n, m in quantized_modules(loaded).items()} == {
        n: m.scheme for n, m in quantized_modules(model).items()
    }
    other, notes = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(notes.values())
    torch.testing.assert_close(other.eval()(ids).logits, logits, rtol=1e-5, atol=2e-5)
    assert parameter_counts(folder) == read_config(folder).n_params()


@torch.no_grad()
def test_int8_activations_are_saved_for_both(tmp_path):
    model, folder = quantized_folder(tmp_path, QuantScheme(bits=8, activation_bits=8))
    ids = random_ids(97, 2, 12)
    loaded, _ = load_model(folder)
    assert torch.equal(loaded(ids), model(ids))
    other = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    # a value on the border between two steps may go to either side
    assert (other(ids).logits - model(ids)).abs().mean() < 0.002 * model(ids).std()


@torch.no_grad()
def test_mixed_bits_are_groups_of_their_own(tmp_path):
    model, _ = load_model(llama_folder(tmp_path))
    plan = make_plan(model, INT4) | {f"trunk.blocks.{layer}.feed_forward.down": INT8 for layer in range(2)}
    quantize_modules(model, plan)
    folder = save_model(model, None, tmp_path / "mixed", Lineage("model"))
    ids = random_ids(97, 2, 12)
    assert torch.equal(load_model(folder)[0](ids), model(ids))
    other = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    torch.testing.assert_close(other(ids).logits, model(ids), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("family", ["Phi3", "GPTNeoX"])
@torch.no_grad()
def test_matrices_that_files_join_or_interleave_are_quantized_row_by_row(family, tmp_path):
    config = getattr(transformers, f"{family}Config")(
        **SHAPE, num_key_value_heads=2, tie_word_embeddings=False
    )
    plain = saved(
        reference_model(getattr(transformers, f"{family}ForCausalLM"), config, spread=0.05),
        tmp_path / "plain",
    )
    model, _ = load_model(plain)
    quantize_modules(model, make_plan(model, INT4_ZEROS))
    folder = save_model(model, None, tmp_path / "quantized", Lineage("model"))
    ids = random_ids(97, 2, 12)
    assert torch.equal(load_model(folder)[0](ids), model(ids))
    other = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    torch.testing.assert_close(other(ids).logits, model(ids), rtol=1e-5, atol=5e-5)


@pytest.mark.parametrize("scheme", [INT4, INT4_ZEROS, INT8], ids=["int4", "int4 with zeros", "int8"])
@torch.no_grad()
def test_a_folder_that_compressed_tensors_wrote_is_read_without_dequantizing(scheme, tmp_path):
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config

    plain = llama_folder(tmp_path)
    other = transformers.LlamaForCausalLM.from_pretrained(plain).eval()
    group = scheme.quant_group_size
    weights = {"num_bits": scheme.bits, "type": "int", "symmetric": scheme.symmetric, "group_size": group}
    weights["strategy"] = "channel" if group is None else "group"
    config = {
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
        "ignore": ["lm_head"],
    }
    apply_quantization_config(other, QuantizationConfig(**config))
    for module in other.modules():
        if hasattr(module, "weight_scale"):
            grouped = module.weight.unflatten(1, (module.weight_scale.shape[1], -1))
            low, high = grouped.amin(-1).clamp(max=0), grouped.amax(-1).clamp(min=0)
            if scheme.symmetric:
                module.weight_scale.copy_(torch.maximum(-low, high) / (2 ** (scheme.bits - 1) - 1))
            else:
                module.weight_scale.copy_((high - low) / 15)
                module.weight_zero_point.copy_((-8 - low / module.weight_scale).round().clamp(-8, 7))
            module.quantization_status = "frozen"
    compressor = ModelCompressor.from_pretrained_model(other, quantization_format="pack-quantized")
    compressor.compress_model(other)
    other.save_pretrained(tmp_path / "theirs")
    compressor.update_config(tmp_path / "theirs")
    loaded, _ = load_model(tmp_path / "theirs")
    assert len(quantized_modules(loaded)) == 14
    ids = random_ids(97, 2, 12)
    edit_config(
        tmp_path / "theirs", dequantize=not scheme.symmetric
    )  # its zero points are not read otherwise
    reloaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "theirs").eval()
    torch.testing.assert_close(loaded(ids), reloaded(ids).logits, rtol=1e-3, atol=1e-3)


def test_a_missing_or_misshapen_tensor_is_refused_by_name(tmp_path):
    _, folder = quantized_folder(tmp_path, INT4)
    name = "model.layers.1.mlp.up_proj.weight"
    edit_tensors(folder, lambda tensors: tensors.pop(f"{name}_scale"))
    with pytest.raises(UserError, match=r"layers\.1\.mlp\.up_proj\.weight.*fit none of the schemes"):
        load_model(folder, verify=False)
    with pytest.raises(CorruptArtifact, match="bytes, but"):
        load_model(folder)


def test_a_matrix_of_another_size_than_its_config_is_refused(tmp_path):
    _, folder = quantized_folder(tmp_path, INT4)
    name = "model.layers.0.self_attn.q_proj.weight_shape"
    edit_tensors(folder, lambda tensors: tensors.update({name: torch.tensor([64, 128])}))
    with pytest.raises(CorruptArtifact, match=r"says \[64, 128\], and config.json \[64, 64\]"):
        load_model(folder, verify=False)


def test_scales_that_float16_cannot_hold_are_refused(tmp_path):
    _, folder = quantized_folder(tmp_path, INT4)
    name = "model.layers.0.self_attn.q_proj.weight_scale"
    edit_tensors(folder, lambda tensors: tensors.update({name: tensors[name].float() * 1e8}))
    with pytest.raises(UserError, match="has a scale that float16 does not hold"):
        load_model(folder, verify=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quant_method": "gptq"}, "quantized by 'gptq'"),
        ({"quant_method": "awq"}, "quantized by 'awq'"),
        ({"quant_method": ["x"]}, "quantized by"),
        ({"kv_cache_scheme": {"num_bits": 8}}, "kv_cache_scheme"),
        ({"sparsity_config": {"format": "sparse-24-bitmask"}}, "sparsity_config"),
        ({"transform_config": {"config_groups": {}}}, "transform_config"),
        ({"format": "nvfp4-pack-quantized"}, "nvfp4"),
        ({"quantization_status": "frozen"}, "frozen"),
        ({"config_groups": {}}, "no groups"),
        ({"config_groups": {"a": ["Linear"]}}, "no settings of `weights`"),
        ({"config_groups": {"a": {"weights": {"num_bits": 3}}}}, "`num_bits` is 3"),
        ({"config_groups": {"a": {"weights": {"type": "float"}}}}, "`type` is 'float'"),
        ({"config_groups": {"a": {"weights": {"strategy": "tensor"}}}}, "`strategy` is 'tensor'"),
        ({"config_groups": {"a": {"weights": {"group_size": 48}}}}, "`group_size` is 48"),
        ({"config_groups": {"a": {"weights": {"actorder": "group"}}}}, "`actorder` is 'group'"),
        ({"config_groups": {"a": {"weights": {"num_bits": True}}}}, "`num_bits` is True"),
        (
            {"config_groups": {"a": {"weights": {}, "input_activations": {"num_bits": 4}}}},
            "input_activations",
        ),
        ({"config_groups": {"a": {"weights": {}, "targets": [3]}}}, "`targets`"),
        (
            {"config_groups": {"a": {"weights": {"num_bits": 8, "strategy": "channel"}}}},
            "fit none of the schemes",
        ),
    ],
)
def test_what_is_not_supported_is_refused_by_its_key(changes, message, tmp_path):
    _, folder = quantized_folder(tmp_path, INT4)
    edit_config(folder, **changes)
    with pytest.raises(UserError, match=message):
        load_model(folder, verify=False)


def test_a_copy_of_a_tied_matrix_must_be_the_same(tmp_path):
    _, folder = quantized_folder(tmp_path, INT8, INT8)

    def repeat(tensors, change=0):
        for suffix in ("packed", "scale", "shape"):
            tensors[f"lm_head.weight_{suffix}"] = tensors[f"model.embed_tokens.weight_{suffix}"] + 0
        tensors["lm_head.weight_packed"][0, 0] += change

    edit_tensors(folder, repeat)
    load_model(folder, verify=False)
    edit_tensors(folder, lambda tensors: repeat(tensors, 1))
    with pytest.raises(CorruptArtifact, match="is tied to"):
        load_model(folder, verify=False)


def test_one_matrix_of_a_folder_is_quantized_in_one_way(tmp_path):
    config = transformers.Phi3Config(**SHAPE, tie_word_embeddings=False)
    plain = saved(reference_model(transformers.Phi3ForCausalLM, config), tmp_path / "plain")
    model, _ = load_model(plain)
    quantize_modules(model, {"trunk.blocks.0.attention.query": INT4, "trunk.blocks.0.attention.key": INT8})
    with pytest.raises(UserError, match=r"are one matrix in model\.layers\.0\.self_attn\.qkv_proj\.weight"):
        save_model(model, None, tmp_path / "out", Lineage("model"))
    assert not (tmp_path / "out").exists()
