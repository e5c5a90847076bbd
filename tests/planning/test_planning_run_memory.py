"""Memory by part: what each method holds, what sharding divides, and what fits."""

from __future__ import annotations

import pytest
import torch

from parakit.common.errors import UserError
from parakit.model import LanguageModel
from parakit.model.config import DecoderConfig
from parakit.model.presets import config_for_size
from parakit.model.pretrained_configs import preset
from parakit.planning import training_memory
from parakit.planning.fitting import fit, nearest_runs, require_fit
from parakit.planning.machines import Machine, find_machine
from parakit.planning.memory import cache_bytes
from parakit.planning.run_memory import available_bytes, run_bytes, weight_bytes
from parakit.planning.runs import RunSpec, lora_parameters
from parakit.planning.training_memory import muon_floats
from parakit.training.optimizers import muon as muon_module
from parakit.training.optimizers.muon import Muon
from parakit.training.optimizers.optimizer import is_matrix

CONFIG = config_for_size("20m", 4096, 512).config
N = CONFIG.n_params()["total"]
FULL = RunSpec(CONFIG, "full", seq_len=256, n_rows=8, micro_batch_size=8)


def machine(gigabytes: float) -> Machine:
    peak = {"float32": 1e12, "bfloat16": 2e12}
    return Machine(name="test", title="a test", peak_flops=peak, bandwidth=1e11, memory_bytes=gigabytes * 1e9)


def test_full_tuning_by_adamw_takes_sixteen_bytes_a_parameter_and_activations() -> None:
    parts = run_bytes(FULL)
    assert (parts.weights, parts.gradients, parts.optimizer) == (4 * N, 4 * N, 8 * N)
    assert parts.activations > 0


def test_adapters_need_neither_gradients_nor_moments_of_the_weights() -> None:
    parts = run_bytes(FULL.changed(method="lora", rank=4))
    trained = lora_parameters(CONFIG, 4)
    assert (parts.gradients, parts.optimizer) == (4 * trained, 8 * trained)
    assert parts.weights == 4 * (N + trained)
    quantized = run_bytes(FULL.changed(method="qlora", rank=4, bits=4))
    assert quantized.weights == pytest.approx(0.625 * N + 4 * trained, abs=1)
    assert quantized.peak < parts.peak
    # With many tokens a step of adapters holds more than it saves on a CPU: a product and its sum with the low-rank update.
    few = FULL.changed(n_rows=1, micro_batch_size=1)
    assert run_bytes(few.changed(method="lora", rank=4)).peak < run_bytes(few).peak


def test_a_teacher_a_reference_and_a_cache_come_on_top() -> None:
    teacher = config_for_size("40m", 4096, 512).config
    assert (
        run_bytes(FULL.changed(method="distill", teacher=teacher)).other_models
        == 4 * teacher.n_params()["total"]
    )
    grpo = run_bytes(FULL.changed(method="grpo", n_new_tokens=64))
    assert grpo.other_models >= 4 * N
    cache = cache_bytes(CONFIG, 4)
    assert cache is not None
    assert grpo.cache == 8 * 256 * cache.per_token


def test_a_pair_has_two_completions() -> None:
    of_pairs, of_rows = (run_bytes(spec).activations for spec in (FULL.changed(method="dpo"), FULL))
    assert of_pairs == pytest.approx(2 * of_rows, abs=1)


def test_checkpointing_keeps_a_vector_of_each_block() -> None:
    kept = run_bytes(FULL.changed(checkpointing=True)).activations
    assert kept < 0.6 * run_bytes(FULL).activations
    assert kept > 4 * 8 * 256 * CONFIG.n_layers * CONFIG.d_model
    # A CPU's kernels of norms, rotation and SwiGLU keep less than PyTorch's operations; its allocator holds more than is kept.
    on_card = run_bytes(FULL, find_machine("h100")).activations
    assert 0.5 * on_card < run_bytes(FULL).activations < run_bytes(FULL).heap < on_card


def test_sharding_divides_state_then_gradients_then_weights() -> None:
    """ZeRO's three stages (Rajbhandari et al. 2020, figure 1), on eight devices."""
    whole = run_bytes(FULL)
    first, second, third = (
        run_bytes(FULL.changed(n_devices=8, sharding=name)) for name in ("optimizer", "gradients", "full")
    )
    assert first.optimizer == whole.optimizer // 8
    assert first.gradients == whole.gradients
    assert (second.optimizer, second.gradients) == (whole.optimizer // 8, whole.gradients // 8)
    assert second.weights == whole.weights
    assert whole.weights // 8 < third.weights < whole.weights


@pytest.mark.parametrize("stacked", [2**22, 2**14])
def test_what_muon_holds_in_an_update(stacked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tensors that one stack's update makes: gradients, two iterates, and two square products."""
    assert muon_module.STACKED_NUMBERS == training_memory.STACKED_NUMBERS
    monkeypatch.setattr(muon_module, "STACKED_NUMBERS", stacked)
    monkeypatch.setattr(training_memory, "STACKED_NUMBERS", stacked)
    torch.manual_seed(0)
    shape = {"d_model": 32, "n_layers": 6, "n_heads": 4, "n_kv_heads": 2, "head_dim": 8, "d_ff": 96}
    model = LanguageModel(DecoderConfig(vocab_size=64, max_seq_len=16, **shape))
    taken: list[torch.Size] = []
    plain = muon_module.orthogonalize

    def counted(x: torch.Tensor) -> torch.Tensor:
        taken.append(x.shape)
        return plain(x)

    monkeypatch.setattr(muon_module, "orthogonalize", counted)
    muon = Muon([(name, p) for name, p in model.named_parameters() if is_matrix(name, p)], 0.0)
    for _, parameter in model.named_parameters():
        parameter.grad = torch.ones_like(parameter)
    muon.step()
    assert muon_floats(model.config) == max(3 * n * r * c + 2 * n * r * r for n, r, c in taken)


def test_weights_of_fewer_bits() -> None:
    config = preset("llama-2-7b")
    assert weight_bytes(config, 16) == 2 * 6_738_415_616
    assert weight_bytes(config, 8) == 6_738_415_616
    assert 3.5e9 < weight_bytes(config, 4) < 4.3e9


def test_a_published_rule_of_thumb() -> None:
    """Llama-2 7B: 16-bit weights alone are 13.5 GB, so a card of 24 GB serves it and one of 12 GB does not; full tuning in
    float32 state needs more than one card of 80 GB, and sharded over eight it fits.
    """
    config = preset("llama-2-7b")
    serving = RunSpec(config, "inference", seq_len=2048, n_rows=1, micro_batch_size=1, bits=16)
    assert fit(serving, find_machine("rtx-4090")).fits
    found = fit(serving, machine(12))
    assert (found.fits, found.change) == (False, "--bits 8")
    tuning = RunSpec(
        config, "full", seq_len=2048, n_rows=1, micro_batch_size=1, precision="bfloat16", checkpointing=True
    )
    assert not fit(tuning, find_machine("h100")).fits
    assert fit(tuning.changed(n_devices=8, sharding="full"), find_machine("h100", 8)).fits


def test_the_nearest_run_is_the_first_that_fits_and_does_fit() -> None:
    peak = run_bytes(FULL, machine(1)).peak
    barely = machine(peak / 1e9 / 0.9 * 1.001)
    assert fit(FULL, barely).fits
    for share in (0.97, 0.9, 0.8, 0.7):
        found = fit(FULL, machine(peak / 1e9 / 0.9 * share))
        assert not found.fits
        if found.alternative is not None:
            assert run_bytes(found.alternative, machine(1)).peak <= found.available_bytes
            assert found.change


def test_changes_go_from_what_changes_the_result_least() -> None:
    changes = [change for change, _ in nearest_runs(FULL)]
    assert changes[0] == "--micro-batch-size 4"
    assert changes.index("--checkpointing") < next(i for i, one in enumerate(changes) if "lora" in one)
    assert "qlora" in changes[-1]
    sizes = [change for change, _ in nearest_runs(FULL.changed(method="pretrain")) if "--size" in change]
    assert sizes


def test_nothing_fits_into_nothing() -> None:
    with pytest.raises(UserError, match="nothing near it fits") as caught:
        require_fit(FULL, machine(0.01))
    assert "smaller model" in caught.value.hint
    assert available_bytes(machine(1)) == 900_000_000
