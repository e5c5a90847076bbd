"""Keys of a published config.json: harmless ones lock no model out, unknown ones are refused together."""

import json

import pytest
import torch

from parakit.checkpoints import load_model, read_config
from parakit.checkpoints.import_export import import_model
from parakit.cli.main import main
from parakit.common import UserError
from parakit.common.artifacts import open_artifact

transformers = pytest.importorskip("transformers")

SHAPE = {
    **{"vocab_size": 61, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"num_key_value_heads": 1, "intermediate_size": 24, "max_position_embeddings": 32},
}
HARMLESS = {
    **{"_model_name_or_path": "Smollm2", "_flash_attn_2_enabled": True, "_attn_implementation_autoset": True},
    **{"use_mrope": False, "is_llama_config": True, "rope_interleaved": False, "unsloth_fixed": True},
    **{"transformers.js_config": {"dtype": "q4"}, "sbert_ce_default_activation_function": "Identity"},
    **{"sentence_transformers": {"version": "4"}, "qkv_bias": False, "use_qk_norm": False},
    **{"shared_expert_intermediate_size": 0, "max_sequence_length": 2048, "sliding_window": None},
    **{"dual_chunk_attention_config": {"chunk_size": 8}, "neftune_noise_alpha": 5.0, "unsloth_version": "1"},
    **{"model_max_length": 4096, "use_reentrant_checkpointing": False, "router_jitter_noise": 0.1},
    **{"reorder_and_upcast_attn": True, "chat_version": 3, "some_new_switch": None},
}


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A folder that transformers wrote, and a way to change its config.json."""
    folder = tmp_path_factory.mktemp("llama") / "m"
    torch.manual_seed(1)
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPE)).save_pretrained(folder)
    original = json.loads((folder / "config.json").read_text())

    def changed(**changes):
        (folder / "config.json").write_text(json.dumps(original | changes))
        return folder

    return changed


def test_bookkeeping_and_switched_off_keys_change_nothing(llama):
    plain = read_config(llama())
    assert read_config(llama(**HARMLESS)) == plain


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("use_qk_norm", True), ("qkv_bias", True), ("rope_interleaved", True), ("use_mrope", True)),
        *(("shared_expert_intermediate_size", 64), ("sliding_window", 8)),
    ],
)
def test_the_same_keys_are_refused_where_they_mean_something(llama, key, value):
    with pytest.raises(UserError, match=f"`{key}` is {value!r}, which means"):
        read_config(llama(**{key: value}))


def test_all_unknown_keys_are_in_one_message(llama):
    with pytest.raises(UserError) as caught:
        read_config(llama(use_alibi=True, mup_scale=2.0, residual_multiplier=0.2))
    assert "`use_alibi`, `mup_scale`, `residual_multiplier` are not keys" in caught.value.message
    assert "--accept-config use_alibi mup_scale residual_multiplier" in caught.value.hint
    with pytest.raises(UserError) as caught:
        read_config(llama(qkv_bias=True, use_mrope=True))
    assert "`qkv_bias` is True" in caught.value.message
    assert "`use_mrope` is True" in caught.value.message


def test_accepted_keys_are_recorded_and_left_out_of_the_result(llama, tmp_path, capsys):
    folder, out = llama(use_alibi=True, mup_scale=2.0), tmp_path / "out"
    with pytest.raises(UserError, match="`use_alibi`, `mup_scale`"):
        import_model(str(folder), out)
    with pytest.raises(UserError, match="`mup_scale` is not a key"):
        import_model(str(folder), out, accept_config=["use_alibi"])
    with pytest.raises(
        UserError, match=r"--accept-config hidden_size: .*\n.*unknown keys: use_alibi, mup_scale"
    ):
        import_model(str(folder), out, accept_config=["use_alibi", "hidden_size"])
    assert list(tmp_path.iterdir()) == []  # nothing half imported
    arguments = ["import", str(folder), "--output", str(out), "--accept-config", "use_alibi", "mup_scale"]
    assert main(arguments) == 0
    accepted = open_artifact(out).lineage["config"]["accepted_config"]
    assert accepted == {"use_alibi": True, "mup_scale": 2.0}
    written = json.loads((out / "config.json").read_text())
    assert not {"use_alibi", "mup_scale"} & written.keys()
    load_model(out)  # asks for nothing again
    again = tmp_path / "again"
    with pytest.raises(UserError, match="has no such unknown key"):
        import_model(str(out), again, accept_config=["use_alibi"])


def test_dynamic_rope_is_plain_up_to_the_window(llama):
    rope = {"rope_theta": 10_000.0, "rope_type": "dynamic", "factor": 4.0}
    folder = llama(rope_parameters=rope)
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    model, _ = load_model(folder)
    token_ids = torch.randint(0, 61, (2, 32), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        difference = (model(token_ids) - reference(token_ids).logits).abs().max()
        assert difference < 1e-4
