"""Folders that cannot be what they say: refused with the file, the field and both values; and whatever stands in a
config.json, nothing but a `UserError` comes of it.
"""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from parakit.checkpoints import load_model, read_config
from parakit.checkpoints.import_notes import import_notes
from parakit.checkpoints.registry import ARCHITECTURES, architecture_of
from parakit.common import CorruptArtifact, UserError
from parakit.tokens import Tokenizer, TokenizerConfig, train_tokenizer
from tests.checkpoints.conformance import assert_close, random_ids, saved, tensors_of
from tests.checkpoints.test_checkpoints_decoders import LLAMA3_ROPE, YARN, tiny
from tests.short_suite import examples

transformers = pytest.importorskip("transformers")
EXPERTS = {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "head_dim": 8}


def folder_with(tmp_path: Path, prefix: str, changes: dict, made_with: dict | None = None) -> Path:
    """A transformers folder whose config.json was changed afterwards; None takes a key away."""
    folder = saved(tiny(prefix, made_with or {}), tmp_path / "f")
    settings = json.loads((folder / "config.json").read_text()) | changes
    settings = {
        key: value for key, value in settings.items() if key not in changes or changes[key] is not ...
    }
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize(
    ("prefix", "changes", "message"),
    [
        (
            "Llama",
            {"num_attention_heads": 5, "head_dim": ...},
            r"`hidden_size` = 32 .* `num_attention_heads` = 5",
        ),
        (
            "Llama",
            {"num_key_value_heads": 3},
            r"n_heads = 4 is not a multiple of n_kv_heads = 3\n.*`num_key_value_heads`",
        ),
        ("Llama", {"head_dim": 7}, r"head_dim = 7 is odd"),
        ("Llama", {"hidden_act": "mish"}, r"`hidden_act` is 'mish'"),
        ("Llama", {"hidden_act": ["silu"]}, r"`hidden_act` is \['silu'\]"),
        ("Llama", {"vocab_size": ...}, r"lacks `vocab_size`"),
        ("Llama", {"rms_norm_eps": -1}, r"norm_eps"),
        ("Llama", {"sliding_window": 4}, r"`sliding_window` is 4, which means local attention"),
        ("Llama", {"hiden_act": "silu"}, r"did its publisher mean `hidden_act`"),
        ("Llama", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, r"rope_scaling"),
        ("Llama", {"rope_parameters": {"rope_type": "longrope", "factor": 2.0}}, r"short_factors"),
        (
            "Llama",
            {"use_alibi": True, "mup": 1},
            r"`use_alibi`, `mup` are not keys[^$]*--accept-config use_alibi mup",
        ),
        (
            "Llama",
            {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "truncate": "no"}},
            r"`truncate` = 'no'",
        ),
        ("Llama", {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, r"partial_rotary"),
        ("Llama", {"rope_parameters": {"rope_type": "linear", "factor": "two"}}, r"factor.*'two'"),
        ("Llama", {"rope_parameters": [1e4]}, r"`rope_parameters` is a list"),
        ("Llama", {"partial_rotary_factor": 0.5}, r"`partial_rotary_factor` is 0.5"),
        ("Mistral", {"sliding_window": 0}, r"sliding_window.*\(got 0\)"),
        (
            "Qwen2",
            {"use_sliding_window": True, "layer_types": ["full_attention"]},
            r"`layer_types` must name",
        ),
        ("Qwen2", {"layer_types": ["sliding_attention"] * 3}, r"`use_sliding_window` is False"),
        (
            "Qwen2",
            {"use_sliding_window": True, "layer_types": ["chunked_attention"] * 3},
            "sliding_attention",
        ),
        ("Mixtral", {"num_experts_per_tok": 9}, r"n_active_experts = 9 exceeds n_experts = 8"),
        ("GPT2", {"n_head": 5}, r"`n_embd` = 32 is not a multiple of `n_head` = 5"),
        ("GPT2", {"scale_attn_by_inverse_layer_idx": True}, r"`scale_attn_by_inverse_layer_idx` is True"),
        ("GPT2", {"add_cross_attention": True}, r"`add_cross_attention` is True"),
        ("GPT2", {"activation_function": "mish"}, r"`activation_function` is 'mish'"),
        ("GPT2", {"n_positions": 2**40}, r"`n_positions` is 1099511627776"),
        ("GPT2", {"n_layer": 10**9}, r"`n_layer` is 1000000000"),
    ],
)
def test_a_config_that_cannot_be_is_refused_with_the_field_and_the_file(tmp_path, prefix, changes, message):
    folder = folder_with(tmp_path, prefix, changes)
    with pytest.raises(UserError, match=message) as error:
        load_model(folder)
    assert "config.json" in str(error.value)
    assert error.value.hint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_experts_per_tok": 6}, r"n_active_experts = 6 exceeds n_experts = 5"),
        ({"mlp_only_layers": "all"}, r"`mlp_only_layers` is 'all'"),
        ({"decoder_sparse_step": 0}, r"`decoder_sparse_step` 0"),
        ({"num_experts": 10**9, "num_local_experts": ...}, r"has shape \(5, 32\).*\(1000000000, 32\)"),
        ({"num_local_experts": ...}, r"lacks `num_experts`"),
        ({"num_experts": 0, "num_local_experts": ...}, r"`num_experts` is 0"),
    ],
)
def test_experts_that_cannot_be_are_refused(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        load_model(folder_with(tmp_path, "Qwen3Moe", changes, EXPERTS))


OLD = {key: value for key, value in LLAMA3_ROPE.items() if key not in ("rope_theta", "rope_type")}


@pytest.mark.parametrize(
    ("new", "old"),
    [
        (LLAMA3_ROPE, {"rope_theta": 5e4, "rope_scaling": OLD | {"type": "llama3"}}),
        (LLAMA3_ROPE, {"rope_theta": 5e4, "rope_scaling": OLD | {"rope_type": "llama3"}}),
        (YARN, {"rope_theta": 1e4, "rope_scaling": {k: v for k, v in YARN.items() if k != "rope_theta"}}),
        (
            {"rope_type": "linear", "rope_theta": 1e4, "factor": 3.0},
            {"rope_scaling": {"type": "linear", "factor": 3.0}},
        ),
        ({"rope_type": "default", "rope_theta": 9e3}, {"rope_theta": 9e3, "rope_scaling": None}),
    ],
)
def test_old_and_new_words_for_rope_mean_the_same(tmp_path, new, old):
    wanted = read_config(folder_with(tmp_path / "new", "Llama", {"rope_parameters": new}))
    got = read_config(folder_with(tmp_path / "old", "Llama", {"rope_parameters": ...} | old))
    assert got == wanted
    both = read_config(folder_with(tmp_path / "both", "Llama", {"rope_parameters": new} | old))
    assert both == wanted


def test_a_cut_file_and_a_tensor_of_another_shape_are_named(tmp_path):
    folder = saved(tiny("GPT2", {}), tmp_path / "f")
    weights = folder / "model.safetensors"
    tensors, whole = tensors_of(folder), weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptArtifact, match=r"model.safetensors: .* take \d+ bytes, and \d+ follow"):
        load_model(folder)
    name = "transformer.h.1.attn.c_attn.weight"
    save_file(tensors | {name: tensors[name].T.contiguous()}, weights)
    with pytest.raises(
        UserError, match=r"c_attn.weight' has shape \(96, 32\), config.json asks for \(32, 96\)"
    ):
        load_model(folder)
    save_file({key: value for key, value in tensors.items() if key != name}, weights)
    with pytest.raises(UserError, match=r"lack the tensor 'transformer.h.1.attn.c_attn.weight'"):
        load_model(folder)
    save_file(tensors | {name: tensors[name].to(torch.int32)}, weights)
    with pytest.raises(UserError, match="dtype I32"):
        load_model(folder)
    save_file(tensors | {"adapter.weight": tensors[name].clone()}, weights)
    with pytest.raises(UserError, match=r"'adapter.weight' that gpt2 does not have"):
        load_model(folder)
    save_file(tensors | {"lm_head.weight": tensors["transformer.wte.weight"] + 1}, weights)
    with pytest.raises(CorruptArtifact, match=r"'lm_head.weight' is tied to 'transformer.wte.weight'"):
        load_model(folder)


def test_a_tokenizer_larger_than_the_embedding_is_refused_with_both_sizes(tmp_path):
    tokenizer: Tokenizer = train_tokenizer(
        iter(["the cat sat on the mat"] * 9), TokenizerConfig(vocab_size=300)
    )
    folder = saved(tiny("Llama", {}), tmp_path / "f")
    tokenizer.save(folder)
    with pytest.raises(UserError, match=rf"{tokenizer.vocab_size} tokens, and the model's embedding 97 rows"):
        load_model(folder)


def test_the_names_of_gpt2_as_it_was_first_published_are_read(tmp_path):
    """Without the prefix, with causal masks as buffers, and with the tied matrix repeated."""
    reference = tiny("GPT2", {})
    folder = saved(reference, tmp_path / "f")
    old = {name.removeprefix("transformer."): value for name, value in tensors_of(folder).items()}
    old |= {f"h.{i}.attn.bias": torch.ones(1, 1, 128, 128, dtype=torch.uint8).tril() for i in range(3)}
    old |= {f"h.{i}.attn.masked_bias": torch.tensor(-1e4) for i in range(3)}
    old["lm_head.weight"] = old["wte.weight"].clone()
    save_file(old, folder / "model.safetensors")
    model, _ = load_model(folder)
    ids = random_ids(97, 2, 12)
    with torch.no_grad():
        assert_close(model(ids), reference(ids).logits)
    save_file(old | {"transformer.wte.weight": old["wte.weight"].clone()}, folder / "model.safetensors")
    with pytest.raises(UserError, match="under two names"):
        load_model(folder)


def test_mixed_dtypes_are_widened_to_the_one_that_holds_all(tmp_path):
    folder = saved(tiny("Llama", {}).to(torch.bfloat16), tmp_path / "f")
    tensors = tensors_of(folder)
    tensors["model.norm.weight"] = tensors["model.norm.weight"].float() + 1e-6
    save_file(tensors, folder / "model.safetensors")
    model, _ = load_model(folder)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model.trunk.final_norm.weight, tensors["model.norm.weight"])
    tensors["model.norm.weight"] = tensors["model.norm.weight"].half()
    save_file(tensors, folder / "model.safetensors")
    assert (
        load_model(folder)[0].lm_head.weight.dtype == torch.float32
    )  # bfloat16 and float16 fit into it only


SOUND = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 97},
    "llama": {
        **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 97},
        **{"intermediate_size": 48, "max_position_embeddings": 64, "num_key_value_heads": 2},
    },
}
MORE = {
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24},
}
KEYS = (
    *("head_dim", "rope_parameters", "rope_scaling", "rope_theta", "layer_types", "max_window_layers"),
    *("use_sliding_window", "sliding_window", "mlp_only_layers", "decoder_sparse_step", "id2label"),
    *("num_labels", "problem_type", "architectures", "tie_word_embeddings", "hidden_act", "n_inner"),
    *("model_type", "attention_bias", "scale_attn_weights"),
)
ROPE_KEYS = ("rope_type", "type", "factor", "rope_theta", "mscale", "mscale_all_dim", "attention_factor")
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    scalars | st.sampled_from(["yarn", "llama3", "linear", "LlamaForSequenceClassification"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(ROPE_KEYS) | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "mistral", "qwen2", "qwen3", "mixtral", "qwen3_moe"])
@examples(50)
@given(data=st.data())
def test_any_value_in_a_config_is_read_or_refused(model_type, data):
    sound = SOUND["gpt2" if model_type == "gpt2" else "llama"] | MORE.get(model_type, {})
    keys = st.sampled_from([*sound, *KEYS])
    changes = data.draw(st.dictionaries(keys, values, min_size=1, max_size=3))
    hf_config = {"model_type": model_type, **sound} | changes
    try:
        architecture, _ = architecture_of(hf_config, "config.json")
        config = architecture.read_settings(hf_config, "config.json")
    except UserError:
        return
    again = architecture.read_settings(architecture.write_settings(config), "config.json")
    assert again.n_params() == config.n_params()


def test_every_architecture_of_the_list_is_there():
    assert set(ARCHITECTURES) >= {
        *("gpt2", "llama", "mistral", "qwen2", "qwen3", "mixtral", "qwen3_moe"),
        *("bert", "modernbert", "t5", "bart", "marian"),
    }


WRAPPED = {
    "torch.compile": lambda name: f"_orig_mod.{name}",
    "torch.compile of a part": lambda name: name.replace("layers.0.", "layers.0._orig_mod."),
    "data parallel": lambda name: f"module.{name}",
    "both": lambda name: f"module._orig_mod.{name}",
    "fully sharded": lambda name: (
        f"_fsdp_wrapped_module.{name.replace('.mlp.', '._checkpoint_wrapped_module.mlp.')}"
    ),
}


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_weights_that_were_saved_inside_a_wrapper_are_read_as_the_models_own(
    wrapper: str, tmp_path: Path
) -> None:
    folder = saved(tiny("Llama", {}), tmp_path / "f")
    plain = load_model(folder)[0].state_dict()
    tensors = {WRAPPED[wrapper](name): tensor for name, tensor in tensors_of(folder).items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    wrapped = load_model(folder)[0].state_dict()
    assert all(torch.equal(wrapped[name], tensor) for name, tensor in plain.items())
    notes = import_notes(folder, [], None)
    assert any("names are kept without those of" in note for note in notes)


def test_names_of_another_program_are_not_called_an_incomplete_folder(tmp_path: Path) -> None:
    folder = saved(tiny("Llama", {}), tmp_path / "f")
    tensors = tensors_of(folder)
    save_file(
        {f"net.{name}": tensor for name, tensor in tensors.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(
        UserError, match=r"hold \d+ that llama does not have, such as 'net\..*\n.*save_pretrained"
    ):
        load_model(folder)
    name = next(iter(tensors))
    save_file(
        tensors | {f"_orig_mod.{name}": tensors[name].clone()}, folder / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(UserError, match="twice, one of them"):
        load_model(folder)
    save_file(
        {key: one for key, one in tensors.items() if key != name},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(UserError, match="not complete: fetch it again"):
        load_model(folder)
