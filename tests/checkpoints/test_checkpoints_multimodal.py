"""Qwen3.5 as it is published: a model that also reads images, of which Parakit loads the language model."""

import json

import pytest
import torch

from parakit.checkpoints import load_model, save_model
from parakit.checkpoints.architectures import qwen3_5
from parakit.checkpoints.import_notes import import_notes
from parakit.checkpoints.multimodal import language_model_config
from parakit.common import Lineage, UserError
from tests.checkpoints.conformance import assert_close, random_ids, reference_model, saved, tensors_of
from tests.checkpoints.decoder_cases import DECODERS

transformers = pytest.importorskip("transformers")

VISION = {
    **{"depth": 1, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": 32},
    **{"num_position_embeddings": 16},
}
# as Qwen3.5 has it, at a tiny size
TEXT = {
    **{"attn_output_gate": True, "full_attention_interval": 2, "mamba_ssm_dtype": "float32"},
    **{"mlp_only_layers": [], "mtp_num_hidden_layers": 1, "mtp_use_dedicated_embeddings": False},
}


def whole_model(tmp_path, prefix: str):
    """A folder with images, texts and a second output; and its model in transformers."""
    case = DECODERS["qwen3_5_text" if prefix == "Qwen3_5" else "qwen3_5_moe_text"]
    text = {**case.sizes, **next(iter(case.variants.values()))}
    config = getattr(transformers, f"{prefix}Config")(text_config=text, vision_config=VISION)
    model = reference_model(
        getattr(transformers, f"{prefix}ForConditionalGeneration"), config, spread=case.spread
    )
    folder = saved(model, tmp_path / "f")
    settings = json.loads((folder / "config.json").read_text())
    settings["text_config"] |= TEXT
    (folder / "config.json").write_text(json.dumps(settings))
    return folder, model


def stack_experts(folder):
    """One tensor for all experts of a layer, as published."""
    from safetensors.torch import save_file

    tensors, parts = tensors_of(folder), {}
    for name in [name for name in tensors if ".mlp.experts." in name and ".weight" in name]:
        module, _, rest = name.partition(".experts.")
        number, part, _ = rest.split(".")
        parts.setdefault(module, {}).setdefault(part, {})[int(number)] = tensors.pop(name)
    for module, found in parts.items():
        stacks = {part: torch.stack([ws[i] for i in sorted(ws)]) for part, ws in found.items()}
        gate_up = torch.cat([stacks["gate_proj"], stacks["up_proj"]], 1)
        tensors[f"{module}.experts.gate_up_proj"] = gate_up
        tensors[f"{module}.experts.down_proj"] = stacks["down_proj"].contiguous()
    assert parts, "there are no experts to stack"
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.long
@pytest.mark.parametrize("prefix", ["Qwen3_5", "Qwen3_5Moe"])
def test_the_language_model_of_a_published_folder_is_loaded(tmp_path, prefix):
    folder, reference = whole_model(tmp_path, prefix)
    if prefix == "Qwen3_5Moe":
        stack_experts(folder)
    names = tensors_of(folder).keys()
    assert any(name.startswith("model.visual.") for name in names)
    assert any(name.startswith("model.language_model.") for name in names)
    model, _ = load_model(folder)
    ids = random_ids(97, 2, 20)
    with torch.no_grad():
        wanted = reference(ids).logits
        assert_close(model(ids), wanted)
    assert any("reads images" in note for note in import_notes(folder, [], None))
    save_model(model, None, tmp_path / "g", Lineage("model"))
    config = json.loads((tmp_path / "g" / "config.json").read_text())
    assert config["architectures"] == [f"{prefix}ForCausalLM"]
    again = getattr(transformers, f"{prefix}ForCausalLM").from_pretrained(tmp_path / "g")
    with torch.no_grad():
        assert_close(again(ids).logits, wanted)


def test_what_is_no_language_model_is_refused():
    config = {"model_type": "qwen3_5", "architectures": ["Qwen3_5ForSequenceClassification"]}
    with pytest.raises(UserError, match="text_config"):
        language_model_config(config, "config.json")
    with pytest.raises(UserError, match="Qwen3_5ForSequenceClassification"):
        language_model_config(config | {"text_config": {}}, "config.json")


def test_every_fourth_layer_has_attention_unless_the_file_says_otherwise():
    sizes = {**DECODERS["qwen3_5_text"].sizes, "num_hidden_layers": 8}
    del sizes["full_attention_interval"]
    assert qwen3_5.read_settings(sizes, "config.json").delta_rule.layers == (0, 1, 2, 4, 5, 6)
    for wrong in ({"layer_types": ["linear_attention"]}, {"full_attention_interval": 0}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            qwen3_5.read_settings(sizes | wrong, "config.json")
    with pytest.raises(UserError, match="attn_output_gate"):
        qwen3_5.read_settings(sizes | {"attn_output_gate": False}, "config.json")
