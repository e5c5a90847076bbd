"""`parakit bench`: the bytes that a token reads are counted exactly, and what cannot be measured is refused."""

import json

import pytest
import torch

from parakit.checkpoints import save_model
from parakit.cli import bench
from parakit.common.artifacts import Lineage
from parakit.common.errors import UserError
from parakit.inference.speed import measure_speed, weight_bytes
from parakit.model.config import DecoderConfig
from parakit.model.heads import LanguageModel

SIZES = {
    "vocab_size": 96,
    "d_model": 16,
    "n_layers": 2,
    "n_heads": 2,
    "n_kv_heads": 1,
    "head_dim": 8,
    "d_ff": 24,
}


def decoder(**changes):
    torch.manual_seed(0)
    return LanguageModel(DecoderConfig(**SIZES, max_seq_len=64, **changes)).eval()


@pytest.mark.parametrize("tied", [True, False])
def test_a_token_reads_every_matrix_once_and_one_row_of_a_table(tied):
    model = decoder(tie_embeddings=tied)
    n_params = model.config.n_params()
    read = n_params["total"] - (0 if tied else n_params["token_embedding"])
    assert weight_bytes(model) == 4 * read
    assert weight_bytes(model.to(torch.bfloat16)) == 2 * read


def test_of_experts_only_the_active_ones_count():
    model = decoder(n_experts=4, n_active_experts=2, tie_embeddings=True)
    config = model.config
    assert config.n_active_params() < config.n_params()["total"]
    assert weight_bytes(model) == 4 * config.n_active_params()


def test_the_floor_is_bandwidth_over_bytes_of_weights_and_cache():
    model = decoder(tie_embeddings=True)
    [speed] = measure_speed(
        model, n_sequences=(3,), prompt_lengths=(10,), n_new_tokens=4, repeats=1, bandwidth=1e6
    )
    cache = 3 * 12 * 2 * 2 * 8 * 4  # rows, tokens, layers, keys and values, width, bytes
    assert speed.bytes_per_step == weight_bytes(model) + cache
    assert speed.floor_tokens_per_second == pytest.approx(3e6 / speed.bytes_per_step)
    assert speed.decode_tokens_per_second > 0
    assert speed.prefill_tokens_per_second > 0


def test_the_command_prints_a_row_for_each_shape_of_work(tiny_chat_model, tmp_path, capsys):
    folder = save_model(*tiny_chat_model, tmp_path / "model", Lineage("model", {}))
    flags = ["--prompt-tokens", "8", "16", "--n-sequences", "1", "2", "--new-tokens", "2", "--repeats", "1"]
    assert bench.main([str(folder), *flags, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert [(row["n_rows"], row["n_prompt_tokens"]) for row in figures["speeds"]] == [
        *((1, 8), (1, 16)),
        *((2, 8), (2, 16)),
    ]
    assert figures["file_bytes"] > figures["weight_bytes_per_token"] > 0
    assert bench.main([str(folder), *flags]) == 0
    assert "of the floor" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"60 prompt tokens and 8 new .* 64"):
        bench.main([str(folder), "--prompt-tokens", "60", "--new-tokens", "8"])
