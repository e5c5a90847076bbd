"""GGUF files of tiny models, named and permuted as llama.cpp's converter does: what is imported computes what
transformers computes from the original folder, with the same weights to the bit.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGMLQuantizationType, GGUFWriter, RopeScalingType, quants

from parakit.checkpoints import load_model
from parakit.checkpoints.gguf.families import family_of
from parakit.checkpoints.gguf.metadata import ModelMetadata
from parakit.checkpoints.gguf.reader import GGUFFile, read_gguf
from parakit.checkpoints.gguf.rope import llama3_factors
from parakit.checkpoints.gguf.tensors import published_tensors
from parakit.checkpoints.gguf.tokenizer import convert_tokenizer
from parakit.checkpoints.import_export import import_model
from parakit.cli.main import main
from parakit.common import UserError, open_artifact
from parakit.common.files import sha256_file
from tests.checkpoints.conformance import assert_close, random_ids, reference_model, saved, tensors_of
from tests.checkpoints.gguf.gguf_files import llama_cpp_tensors, rotary_fields, write_gguf

transformers = pytest.importorskip("transformers")

WIDTHS = {"vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
LLAMA3 = {
    **{"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0},
    **{"high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
}
GEMMA3_ROPE = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32}


def yarn_fields(writer: GGUFWriter, config) -> None:
    rotary_fields(writer, config)
    writer.add_rope_scaling_type(RopeScalingType.YARN)
    writer.add_rope_scaling_factor(4.0)
    writer.add_rope_scaling_orig_ctx_len(32)


def linear_fields(writer: GGUFWriter, config) -> None:
    rotary_fields(writer, config)
    writer.add_rope_scaling_type(RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(2.0)


def window_fields(writer: GGUFWriter, config) -> None:
    rotary_fields(writer, config)
    writer.add_sliding_window(config.sliding_window)


def granite_fields(writer: GGUFWriter, config) -> None:
    rotary_fields(writer, config)
    writer.add_attention_scale(config.attention_multiplier)
    writer.add_embedding_scale(config.embedding_multiplier)
    writer.add_residual_scale(config.residual_multiplier)
    writer.add_logit_scale(config.logits_scaling)


def gemma2_fields(writer: GGUFWriter, config) -> None:
    window_fields(writer, config)
    writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
    writer.add_final_logit_softcapping(config.final_logit_softcapping)


def gemma3_fields(writer: GGUFWriter, config) -> None:
    window_fields(writer, config)
    writer.add_rope_scaling_type(RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(8.0)


def phi3_fields(writer: GGUFWriter, config) -> None:
    window_fields(writer, config)
    writer.add_rope_scaling_orig_ctx_len(64)
    writer.add_rope_dimension_count(16)


def gpt2_fields(writer: GGUFWriter, config) -> None:
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)


# name -> llama.cpp's architecture, transformers' model, its config, what writes the metadata
CASES: dict[str, tuple[MODEL_ARCH, str, dict, Callable]] = {
    "llama": (MODEL_ARCH.LLAMA, "Llama", {"tie_word_embeddings": True}, rotary_fields),
    "llama with biases": (
        MODEL_ARCH.LLAMA,
        "Llama",
        {"attention_bias": True, "mlp_bias": True},
        rotary_fields,
    ),
    "llama 3": (MODEL_ARCH.LLAMA, "Llama", {"rope_parameters": LLAMA3, "head_dim": 32}, rotary_fields),
    "linear scaling": (
        MODEL_ARCH.LLAMA,
        "Llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
        linear_fields,
    ),
    "mistral": (MODEL_ARCH.LLAMA, "Mistral", {"sliding_window": 5}, window_fields),
    "mixtral": (
        MODEL_ARCH.LLAMA,
        "Mixtral",
        {"num_local_experts": 4, "num_experts_per_tok": 2},
        rotary_fields,
    ),
    "qwen2": (MODEL_ARCH.QWEN2, "Qwen2", {"tie_word_embeddings": True}, rotary_fields),
    "yarn": (MODEL_ARCH.QWEN2, "Qwen2", {"rope_parameters": YARN}, yarn_fields),
    "qwen3": (MODEL_ARCH.QWEN3, "Qwen3", {"head_dim": 32}, rotary_fields),
    "qwen3 with experts": (
        MODEL_ARCH.QWEN3MOE,
        "Qwen3Moe",
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "head_dim": 16}
        | {"norm_topk_prob": True, "mlp_only_layers": []},
        rotary_fields,
    ),
    "gemma 2": (
        MODEL_ARCH.GEMMA2,
        "Gemma2",
        {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 5},
        gemma2_fields,
    ),
    "gemma 3": (
        MODEL_ARCH.GEMMA3,
        "Gemma3",
        {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 5, "num_hidden_layers": 7}
        | {"rope_parameters": GEMMA3_ROPE},
        gemma3_fields,
    ),
    "olmo 2": (MODEL_ARCH.OLMO2, "Olmo2", {}, rotary_fields),
    "granite": (
        MODEL_ARCH.GRANITE,
        "Granite",
        {
            "attention_multiplier": 0.2,
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.5,
            "logits_scaling": 4.0,
        },
        granite_fields,
    ),
    "smollm 3": (MODEL_ARCH.SMOLLM3, "SmolLM3", {"num_hidden_layers": 5, "pad_token_id": 0}, rotary_fields),
    "phi 3": (
        MODEL_ARCH.PHI3,
        "Phi3",
        {"sliding_window": 9, "original_max_position_embeddings": 64, "pad_token_id": 0},
        phi3_fields,
    ),
    "gpt2": (MODEL_ARCH.GPT2, "GPT2", {"n_positions": 64}, gpt2_fields),
}


def make_case(name: str, folder: Path):
    """The transformers model of a case, its folder, and its tensors as llama.cpp has them."""
    architecture, hf_name, settings, _ = CASES[name]
    suffix = "TextConfig" if hf_name == "Gemma3" else "Config"
    config_class = getattr(transformers, f"{hf_name}{suffix}")
    if hf_name == "GPT2":
        config = config_class(vocab_size=320, n_embd=64, n_layer=2, n_head=4, **settings)
        model_class = transformers.GPT2LMHeadModel
    else:
        config = config_class(**WIDTHS | HEADS | settings)
        model_class = getattr(transformers, f"{hf_name}ForCausalLM")
    config._attn_implementation = "eager"
    reference = reference_model(model_class, config)
    saved(reference, folder)
    tensors = llama_cpp_tensors(folder, config, architecture)
    if name == "llama 3":
        tensors["rope_freqs.weight"] = llama3_factors(500_000.0, 32, 8.0, 8192)
    return reference, tensors


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_an_imported_file_computes_what_its_folder_computes(name: str, tmp_path: Path) -> None:
    architecture, _, _, fields = CASES[name]
    reference, tensors = make_case(name, tmp_path / "folder")
    file = write_gguf(
        tmp_path / "model.gguf",
        MODEL_ARCH_NAMES[architecture],
        lambda w: fields(w, reference.config),
        tensors,
    )
    output = import_model(str(file), tmp_path / "imported")
    before, after = tensors_of(tmp_path / "folder"), tensors_of(output)
    assert before.keys() == after.keys()
    for tensor_name, tensor in before.items():
        rounding = 1e-6 if "gemma" in name and "norm" in tensor_name else 0  # 1 was added and taken off
        assert (tensor - after[tensor_name]).abs().max() <= rounding, tensor_name
    (class_name,) = json.loads((output / "config.json").read_text())["architectures"]
    assert class_name == type(reference).__name__
    ids = random_ids(300, 2, 24)
    model, _ = load_model(output)
    assert_close(model(ids), reference(ids).logits)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_llama_3s_divisors_are_transformers(tmp_path: Path) -> None:
    """The tensor that the case above writes is the one that scales transformers' frequencies."""
    config = transformers.LlamaConfig(**WIDTHS, **HEADS, head_dim=32, rope_parameters=LLAMA3)
    scaled = transformers.LlamaModel(config).rotary_emb.inv_freq
    plain = 500_000.0 ** -(torch.arange(0, 32, 2) / 32)
    factors = torch.from_numpy(llama3_factors(500_000.0, 32, 8.0, 8192)).float()
    torch.testing.assert_close(scaled, plain / factors, rtol=1e-6, atol=0)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """The Llama case: model and tensors."""
    return make_case("llama", tmp_path_factory.mktemp("llama") / "folder")


def write_llama(path: Path, llama, kinds=None, **extra) -> Path:
    reference, tensors = llama

    def fields(writer: GGUFWriter) -> None:
        rotary_fields(writer, reference.config)
        for key, value in extra.items():
            writer.add_float32(key.replace("__", "."), value)

    return write_gguf(path, "llama", fields, tensors, kinds)


def test_a_quantized_file_holds_its_dequantized_weights(llama, tmp_path: Path, capsys) -> None:
    """Half a dozen kinds in one file; `--dtype`, lineage and the command's output."""
    names = ("ffn_up", "ffn_gate", "attn_v", "attn_output")
    kinds = {
        f"blk.0.{name}.weight": getattr(GGMLQuantizationType, kind)
        for name, kind in zip(names, ("Q8_0", "Q4_0", "Q4_1", "Q5_1"), strict=True)
    }
    kinds |= {"token_embd.weight": GGMLQuantizationType.BF16, "blk.1.ffn_up.weight": GGMLQuantizationType.F16}
    file = write_llama(tmp_path / "q.gguf", llama, kinds)
    assert main(["import", str(file), "--output", str(tmp_path / "out"), "--dtype", "bfloat16"]) == 0
    capsys.readouterr()
    exact = import_model(str(file), tmp_path / "exact")
    stored, short = tensors_of(exact), tensors_of(tmp_path / "out")
    weights = llama[1]["blk.0.ffn_up.weight"]
    expected = quants.dequantize(
        quants.quantize(weights, GGMLQuantizationType.Q8_0), GGMLQuantizationType.Q8_0
    )
    name = "model.layers.0.mlp.up_proj.weight"
    assert stored[name].numpy().tobytes() == expected.tobytes()
    assert torch.equal(short[name], stored[name].bfloat16())
    lineage = open_artifact(exact).lineage
    assert lineage["config"]["quantization"]["Q4_1"] == 1
    assert lineage["result"]["files"] == {"q.gguf": sha256_file(file)}
    assert lineage["result"]["about"]["architecture"] == "llama"


def test_an_unknown_setting_is_refused_and_accepted_by_name(llama, tmp_path: Path) -> None:
    file = write_llama(tmp_path / "odd.gguf", llama, llama__residual_boost=2.0)
    with pytest.raises(UserError, match=r"`llama\.residual_boost` = 2\.0") as refusal:
        import_model(str(file), tmp_path / "out")
    assert "--accept-config llama.residual_boost" in refusal.value.hint
    assert not (tmp_path / "out").exists()
    written = import_model(str(file), tmp_path / "out", accept_config=["llama.residual_boost"])
    assert open_artifact(written).lineage["config"]["accepted_config"] == {"llama.residual_boost": 2.0}
    with pytest.raises(UserError, match="no such unknown key"):
        import_model(str(file), tmp_path / "again", accept_config=["llama.block_count"])


def test_faults_of_models_are_named(llama, tmp_path: Path) -> None:
    reference, tensors = llama
    fields = lambda writer: rotary_fields(writer, reference.config)  # noqa: E731
    wrong = {
        "missing": ({n: w for n, w in tensors.items() if n != "blk.1.attn_v.weight"}, "llama", "v_proj"),
        "extra": (
            tensors | {"blk.0.attn_sinks.weight": tensors["output_norm.weight"]},
            "llama",
            "attn_sinks",
        ),
        "shape": (
            tensors | {"output_norm.weight": tensors["output_norm.weight"][:32]},
            "llama",
            "norm.weight",
        ),
        "other": (tensors, "mamba", "architecture 'mamba'"),
    }
    for name, (changed, architecture, message) in wrong.items():
        file = write_gguf(tmp_path / f"{name}.gguf", architecture, fields, changed)
        with pytest.raises(UserError, match=message) as refusal:
            import_model(str(file), tmp_path / "out")
        assert ".gguf-" not in str(refusal.value)  # no name of a temporary folder
        assert list(tmp_path.glob(".*")) == []
        assert not (tmp_path / "out").exists()


ODD_VALUES = [None, -1, 0, 3, 2**40, 1.5, float("nan"), "x", "", True, [], [1, 2], [1.5] * 320, ["a"] * 320]


def test_odd_metadata_raises_nothing_but_a_users_error(llama, tmp_path: Path) -> None:
    """Each key with each odd value, through settings, tokenizer and names of tensors."""
    file = read_gguf(write_llama(tmp_path / "model.gguf", llama))
    refused: dict[str, list[bool]] = {}
    for key in file.metadata:
        for value in ODD_VALUES:
            changed = {k: v for k, v in file.metadata.items() if k != key}
            changed |= {} if value is None else {key: value}
            try:
                one = GGUFFile(file.path, changed, file.tensors)
                architecture, family = family_of(one)
                metadata = ModelMetadata(one, architecture)
                config = family.settings(metadata)
                metadata.check_all_read()
                convert_tokenizer(one, 64)
                for _ in published_tensors(one, family, config):
                    pass
            except UserError as error:
                refused.setdefault(key, []).append(bool(error.hint))
    assert {"general.architecture", "llama.attention.head_count", "tokenizer.ggml.tokens"} <= refused.keys()
    assert all(all(hints) for hints in refused.values())


def test_divisors_that_no_scaling_gives_are_refused(llama, tmp_path: Path) -> None:
    reference, tensors = llama
    odd = tensors | {"rope_freqs.weight": tensors["output_norm.weight"][:8] + 1}
    file = write_gguf(tmp_path / "odd.gguf", "llama", lambda w: rotary_fields(w, reference.config), odd)
    with pytest.raises(UserError, match="not those of Llama 3's scaling"):
        import_model(str(file), tmp_path / "out")


def test_commands_that_want_a_folder_name_the_import(llama, tmp_path: Path, capsys) -> None:
    file = write_llama(tmp_path / "model.gguf", llama)
    for path in (file, tmp_path):
        assert main(["generate", str(path), "the bird"]) == 2
        assert f"parakit import {file} --output FOLDER" in capsys.readouterr().err
    assert read_gguf(file).tensors["token_embd.weight"].shape == (320, 64)
