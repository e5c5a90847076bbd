"""The sides of `engine_cpu` do the same work, at a tiny size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.speed import engine_cpu
from benchmarks.speed.peers import engine_parakit_side, engine_transformers_side, engine_work, peers

TINY = engine_work.SHAPES["tiny"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("engine") / "model"
    engine_work.write_random_model(made, TINY)
    return made


def spec_of(folder: Path, weights: str = "fp32", **changes: Any) -> dict[str, Any]:
    return {"folder": str(folder), "weights": weights, "threads": 1, "n_prompt": 9, "n_new": 6} | changes


def test_both_sides_write_the_same_tokens(folder: Path) -> None:
    actual = engine_parakit_side.generate(spec_of(folder))
    reference = engine_transformers_side.generate(spec_of(folder))
    assert actual["token_ids"] == reference["token_ids"]
    assert len(actual["token_ids"]) == 6
    assert min(actual["prefill"], actual["decode"], reference["prefill"], reference["decode"]) > 0


@pytest.mark.parametrize("weights", ["bf16", "int8", "int4"])
def test_every_kind_of_weights_is_measured(folder: Path, weights: str) -> None:
    assert len(engine_parakit_side.generate(spec_of(folder, weights))["token_ids"]) == 6


def test_requests_at_once_have_the_tokens_that_they_have_alone(folder: Path) -> None:
    spec = spec_of(folder, n_requests=5, longest=16, memory_bytes=2**20)
    found = engine_parakit_side.throughput(spec)
    assert found["requests_that_differ"] == 0
    assert found["share_of_memory_bound"] <= 1
    work = engine_work.requests(TINY.vocab_size, 5, 16)
    assert [len(ids) for ids in found["token_ids"]] == [request.n_new for request in work]
    assert len({len(request.prompt) for request in work}) > 2


def test_growth_measures_and_fits(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parakit.inference.speed.BANDWIDTH_BYTES", 2**20)
    monkeypatch.setattr(engine_cpu, "CONTEXTS", [8, 16, 24])
    monkeypatch.setattr(engine_cpu, "ROWS", [1, 2])
    monkeypatch.setattr(engine_cpu, "PICTURE", tmp_path / "growth.png")
    monkeypatch.setattr(
        engine_cpu, "_side", lambda name, task, spec: getattr(engine_parakit_side, task)(spec)
    )
    found = engine_cpu._growth(spec_of(folder))
    assert (tmp_path / "growth.png").stat().st_size > 0
    assert found["decode"]["share_of_floor_16"] > 0
    assert [point["rows"] for point in found["points"]["by_rows"]] == [1, 2]


def test_a_curve_through_its_own_points_has_no_error() -> None:
    points = [{"n": n, "s": 0.5 + 0.25 * n + 0.125 * n * n} for n in (1, 2, 4, 8)]
    expected = {"seconds": 0.5, "seconds_per_n": 0.25, "seconds_per_n_squared": 0.125, "largest_error": 0}
    assert engine_cpu._fit(points, "n", "s", 2) == pytest.approx(expected, abs=1e-6)


def test_the_file_for_llama_cpp_holds_the_same_weights(folder: Path, tmp_path: Path) -> None:
    import gguf
    from safetensors.torch import load_file

    engine_work.write_gguf(folder, tmp_path / "model.gguf")
    found = {
        tensor.name: np.array(tensor.data) for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors
    }
    expected = load_file(folder / "model.safetensors")
    assert len(found) == len(expected)
    assert np.array_equal(
        found["blk.1.ffn_down.weight"], expected["model.layers.1.mlp.down_proj.weight"].float()
    )
    query = expected["model.layers.0.self_attn.q_proj.weight"].float().numpy()
    assert np.array_equal(
        found["blk.0.attn_q.weight"][1], query[8]
    )  # of a head of 16: halves become neighbours


def test_an_unknown_row_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"135m-int2.*known: 135m-fp32"):
        engine_cpu.engine_cpu(rows=["135m-int2"])


@pytest.mark.long
def test_llama_cpp_and_continuous_batching_write_the_same_tokens(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not peers.is_installed("llama"):
        pytest.skip("llama.cpp is not installed as a peer")
    monkeypatch.setattr(engine_cpu, "model_folder", lambda size, work: folder)
    monkeypatch.setattr(engine_cpu, "N_REQUESTS", 5)
    monkeypatch.setattr(engine_cpu, "LONGEST", 16)
    for weights in engine_work.WEIGHTS:
        files = engine_cpu._files("tiny", weights, tmp_path, 1)
        found = engine_cpu._generation(spec_of(folder, weights) | files, 1)
        assert found["decode_over_llama"]["median"] > 0
        if weights == "fp32":
            assert found["equal_tokens_llama"]["of_256"] == 6
            throughput = engine_cpu._throughput(spec_of(folder) | files, 1)
            assert throughput["over_llama"]["median"] > 0
