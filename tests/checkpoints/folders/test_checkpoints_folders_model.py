"""What we write transformers loads, and what transformers writes we load: logits within 1e-4 in float32,
tensors byte for byte.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

from parakit.checkpoints import load_model, read_config, save_model
from parakit.checkpoints.loading import parameter_counts
from parakit.common import CorruptArtifact, Lineage, UserError
from parakit.model.config import DecoderConfig
from parakit.model.heads import LanguageModel

transformers = pytest.importorskip("transformers")

SHAPE = {
    "vocab_size": 97,
    "d_model": 32,
    "n_layers": 2,
    "n_heads": 4,
    "n_kv_heads": 2,
    "head_dim": 8,
    "d_ff": 48,
}
FOREIGN = {
    **{"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8},
    **{
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
        "rope_theta": 50_000.0,
    },
}


@pytest.fixture(autouse=True)
def threads():
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def random_model(**changes) -> LanguageModel:
    """A model none of whose weights is at a special value (actual start with zeros in places)."""
    model = LanguageModel(DecoderConfig(**SHAPE | {"max_seq_len": 64} | changes)).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2 + (parameter.ndim == 1))
    return model


def reference_model(path, shard="1GB", **changes):
    torch.manual_seed(3)
    model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**FOREIGN | changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(path, max_shard_size=shard)
    return model


def some_ids() -> torch.Tensor:
    return torch.randint(0, 97, (2, 24), generator=torch.Generator().manual_seed(1))


def assert_same_logits(actual: LanguageModel, reference) -> None:
    with torch.no_grad():
        difference = (actual(some_ids()) - reference(some_ids()).logits).abs().max().item()
    assert difference <= 1e-4


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_embeddings": False},
        {"n_kv_heads": 4, "rope_theta": 1e6},
        {"n_kv_heads": 1, "head_dim": 6, "norm_eps": 1e-5},
    ],
    ids=["tied", "untied", "multi-head", "odd-shapes"],
)
def test_transformers_computes_our_logits(tmp_path, changes):
    model = random_model(**changes)
    save_model(model, None, tmp_path / "m", Lineage("model"))
    reference, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "m", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert type(reference).__name__ == "Qwen3ForCausalLM"
    assert reference.config.tie_word_embeddings == model.config.tie_embeddings
    assert_same_logits(model, reference.eval())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shard", ["1GB", "20KB"], ids=["one-file", "shards"])
def test_we_compute_the_logits_of_a_folder_that_transformers_wrote(tmp_path, tied, shard):
    reference = reference_model(tmp_path / "f", shard, tie_word_embeddings=tied)
    model, tokenizer = load_model(tmp_path / "f")
    assert tokenizer is None
    assert not model.training
    assert_same_logits(model, reference)


def test_folder_to_model_to_folder_keeps_every_byte(tmp_path):
    reference_model(tmp_path / "f", tie_word_embeddings=False)
    model, _ = load_model(tmp_path / "f")
    save_model(model, None, tmp_path / "a", Lineage("model"))
    again, _ = load_model(tmp_path / "a")
    save_model(again, None, tmp_path / "b", Lineage("model"))
    from safetensors.numpy import load_file

    first, second = (
        load_file(tmp_path / "f" / "model.safetensors"),
        load_file(tmp_path / "a" / "model.safetensors"),
    )
    assert first.keys() == second.keys()
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    assert (tmp_path / "a/config.json").read_bytes() == (tmp_path / "b/config.json").read_bytes()


def test_settings_survive_the_round_trip(tmp_path):
    config = DecoderConfig(**SHAPE, max_seq_len=77, rope_theta=123456.0, norm_eps=3e-6, tie_embeddings=False)
    save_model(LanguageModel(config), None, tmp_path / "m", Lineage("model"))
    assert read_config(tmp_path / "m").model_dump() == config.model_dump()
    assert parameter_counts(tmp_path / "m") == config.n_params()


def test_what_a_folder_says_is_read_without_torch(tmp_path):
    save_model(random_model(), None, tmp_path / "m", Lineage("model"))
    program = (
        "import sys; from parakit.checkpoints import parameter_counts, read_config, read_head\n"
        f"folder = {str(tmp_path / 'm')!r}; read_config(folder), read_head(folder), parameter_counts(folder)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_tied_matrix_is_stored_once_and_stays_one_after_loading(tmp_path):
    model = random_model()
    save_model(model, None, tmp_path / "m", Lineage("model"))
    loaded, _ = load_model(tmp_path / "m")
    assert loaded.lm_head.weight is loaded.trunk.token_embedding.weight
    assert sum(p.numel() for p in loaded.parameters()) == model.config.n_params()["total"]
    size = (tmp_path / "m/model.safetensors").stat().st_size
    assert size < model.config.n_params()["total"] * 4 + 4096


def test_a_loaded_model_can_be_trained_without_touching_the_file(tmp_path):
    save_model(random_model(), None, tmp_path / "m", Lineage("model"))
    before = (tmp_path / "m/model.safetensors").read_bytes()
    loaded, _ = load_model(tmp_path / "m")
    assert all(p.requires_grad for p in loaded.parameters())
    loaded(some_ids()).sum().backward()
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.add_(1.0)
    assert (tmp_path / "m/model.safetensors").read_bytes() == before


def test_loading_draws_no_random_numbers(tmp_path):
    save_model(random_model(), None, tmp_path / "m", Lineage("model"))
    before = torch.get_rng_state()
    load_model(tmp_path / "m")
    assert torch.equal(before, torch.get_rng_state())


def test_the_dtype_is_kept_or_changed_as_asked_and_positions_stay_float32(tmp_path):
    model = random_model()
    save_model(model, None, tmp_path / "half", Lineage("model"), dtype="bfloat16")
    assert json.loads((tmp_path / "half/config.json").read_text())["dtype"] == "bfloat16"
    kept, _ = load_model(tmp_path / "half")
    assert {p.dtype for p in kept.parameters()} == {torch.bfloat16}
    assert kept.trunk.positions.cos.dtype == torch.float32
    widened, _ = load_model(tmp_path / "half", dtype="float32")
    assert {p.dtype for p in widened.parameters()} == {torch.float32}
    for name, parameter in widened.named_parameters():
        assert torch.equal(parameter, model.state_dict()[name].bfloat16().float())
    with pytest.raises(UserError, match="dtype 'int8'"):
        load_model(tmp_path / "half", dtype="int8")


def test_a_damaged_artifact_names_the_file(tmp_path):
    save_model(random_model(), None, tmp_path / "m", Lineage("model"), card="# A card\n")
    assert (tmp_path / "m/README.md").read_text() == "# A card\n"
    weights = bytearray((tmp_path / "m/model.safetensors").read_bytes())
    weights[-3] ^= 1
    (tmp_path / "m/model.safetensors").write_bytes(weights)
    with pytest.raises(CorruptArtifact, match=r"model\.safetensors"):
        load_model(tmp_path / "m")


def test_an_existing_folder_is_not_touched(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m/notes.txt").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        save_model(random_model(), None, tmp_path / "m", Lineage("model"))
    assert [p.name for p in tmp_path.rglob("*")] == ["m", "notes.txt"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("add_cross_attention", True, "cross-attention"),
        ("hidden_act", "mish", "activation"),
        ("rope_parameters", {"rope_type": "longrope", "factor": 2.0}, "short_factors"),
        ("rope_theta", 77.0, "several values"),
        ("layer_types", ["full_attention", "sliding_attention"], "layer_types"),
        ("quantization_config", {"bits": 4}, "quantized"),
        ("logit_softcapping", 30.0, "logit_softcapping"),
        ("model_type", "rwkv", "'rwkv'"),
        ("architectures", ["Qwen3ForQuestionAnswering"], "architectures"),
        ("hidden_size", None, "hidden_size"),
        ("hidden_size", "wide", "d_model"),
        ("max_position_embeddings", 10**12, "max_position_embeddings"),
    ],
)
def test_an_unsupported_setting_is_refused_by_name(tmp_path, key, value, message):
    reference_model(tmp_path / "f")
    settings = json.loads((tmp_path / "f/config.json").read_text()) | {key: value}
    (tmp_path / "f/config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=message) as error:
        load_model(tmp_path / "f")
    assert error.value.hint or key == "hidden_size"


def test_weights_that_do_not_fit_the_settings_are_refused_by_name(tmp_path):
    reference_model(tmp_path / "f")
    settings = json.loads((tmp_path / "f/config.json").read_text())

    def load_with(**changes):
        (tmp_path / "f/config.json").write_text(json.dumps(settings | changes))
        load_model(tmp_path / "f")

    with pytest.raises(UserError, match=r"embed_tokens.*\(97, 32\).*\(98, 32\)"):
        load_with(vocab_size=98)
    with pytest.raises(UserError, match=r"does not have"):
        load_with(num_hidden_layers=1, layer_types=["full_attention"])
    with pytest.raises(UserError, match="lack the tensor"):
        load_with(num_hidden_layers=3, layer_types=None)
    with pytest.raises(UserError, match="`num_hidden_layers` is 1000000000"):
        load_with(num_hidden_layers=10**9, layer_types=None)


def test_a_tied_folder_with_another_output_matrix_is_refused(tmp_path):
    reference_model(tmp_path / "f", tie_word_embeddings=False)
    settings = json.loads((tmp_path / "f/config.json").read_text()) | {"tie_word_embeddings": True}
    (tmp_path / "f/config.json").write_text(json.dumps(settings))
    with pytest.raises(CorruptArtifact, match="tied"):
        load_model(tmp_path / "f")


def test_an_error_says_what_a_folder_without_a_model_is(tmp_path):
    def refusal(path) -> str:
        with pytest.raises(UserError) as error:
            load_model(path)
        return str(error.value)

    assert "no such model folder" in refusal(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    assert "empty" in refusal(tmp_path / "empty")
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    assert "parakit import" in refusal(tmp_path / "a.gguf")
    (tmp_path / "a.txt").write_text("text")
    assert "it is a file" in refusal(tmp_path / "a.txt")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/book.txt").write_text("once")
    assert "book.txt" in refusal(tmp_path / "docs")
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled/config.json").write_text("{}")
    (tmp_path / "pickled/pytorch_model.bin").write_bytes(b"x")
    assert "pickled" in refusal(tmp_path / "pickled")
    from parakit.common import writing_artifact

    with writing_artifact(tmp_path / "corpus", Lineage("corpus")) as folder:
        (folder / "train.jsonl").write_text("{}")
    assert "'corpus'" in refusal(tmp_path / "corpus")
    save_model(random_model(), None, tmp_path / "builds" / "tuned", Lineage("model"))
    assert str(tmp_path / "builds" / "tuned") in refusal(tmp_path / "builds")
    shutil.copy(tmp_path / "builds/tuned/model.safetensors", tmp_path / "weights.safetensors")
    assert "weights alone" in refusal(tmp_path / "weights.safetensors")
