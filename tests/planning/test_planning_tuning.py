"""All weights or an adapter: by what the memory holds, then by what there is to learn."""

from __future__ import annotations

from parakit.model.presets import config_for_size
from parakit.planning.run_memory import run_bytes
from parakit.planning.runs import RunSpec, lora_parameters
from parakit.planning.tuning import SHARE_OF_MEMORY, choose_tuning

CONFIG = config_for_size("20m", 4096, 256).config
N_ADAPTER = lora_parameters(CONFIG, 8)


def test_all_weights_need_what_a_plan_of_full_tuning_needs() -> None:
    planned = run_bytes(RunSpec(CONFIG, "full", seq_len=256, n_rows=1, micro_batch_size=1)).peak
    for share, method in ((0.99, "lora"), (1.01, "full")):
        memory = share * planned / SHARE_OF_MEMORY
        chosen, why = choose_tuning(CONFIG, N_ADAPTER, 1e12, memory, seq_len=256)
        assert chosen == method, why
    _, why = choose_tuning(CONFIG, N_ADAPTER, 1e12, 1e8, seq_len=256)
    assert why.startswith("all weights need about")


def test_an_adapter_is_taken_while_it_holds_what_there_is_to_learn() -> None:
    for n_learned, method in ((2.0 * N_ADAPTER, "lora"), (2.1 * N_ADAPTER, "full")):
        assert choose_tuning(CONFIG, N_ADAPTER, n_learned, None, seq_len=256)[0] == method
