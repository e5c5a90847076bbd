"""Time of a step: a card's from its peak and its bandwidth, the machine's from its calibration."""

from __future__ import annotations

import pytest

from parakit.model.presets import config_for_size
from parakit.model.pretrained_configs import preset
from parakit.planning.calibration import BlockSpeed, MeasuredSpeeds, interpolate
from parakit.planning.machines import Machine, find_machine
from parakit.planning.operations import step_operations
from parakit.planning.runs import RunSpec
from parakit.planning.step_time import STEP_OVERHEAD, decode_bytes, step_seconds

CONFIG = config_for_size("20m", 4096, 512).config
RUN = RunSpec(CONFIG, "full", seq_len=256, n_rows=8, micro_batch_size=8)
FLAT = MeasuredSpeeds(
    hardware="a test",
    n_threads=1,
    blocks=(BlockSpeed(d_model=64, forward=1e10, train=1e10, adapters=1e10, muon=1e10),),
    scores_forward=1e10,
    scores_train=1e10,
    head_train=1e10,
    logit_seconds=0.0,
    adamw_seconds=0.0,
    decoding=((1e6, 1e10),),
    decode_flops=((64.0, 1e12),),
    draw_seconds=0.0,
    prefill_flops=1e10,
    process_bytes=10**8,
    peak_flops=1e10,
)


def measured(**changes: float) -> Machine:
    return Machine(
        name="this machine", title="a test", peak_flops={"float32": 1e10}, bandwidth=1e10, memory_bytes=1e10,
        calibration=FLAT.replace(**changes),
    )  # fmt: skip


def test_a_card_takes_the_operations_over_what_it_reaches() -> None:
    card = find_machine("a100-80gb", 4, utilization=0.5)
    run = RUN.changed(precision="bfloat16")
    assert step_seconds(run, card).total == pytest.approx(step_operations(run).total / (4 * 0.5 * 312e12))


def test_a_machine_that_is_equally_fast_at_everything_takes_the_operations_over_it() -> None:
    for run in (RUN, RUN.changed(method="lora"), RUN.changed(checkpointing=True)):
        operations = step_operations(run)
        total = step_seconds(run, measured()).total
        assert total == pytest.approx(
            STEP_OVERHEAD * operations.total / 1e10, rel=0.06
        )  # the frozen head counts less
    assert step_seconds(RUN, measured()).total == pytest.approx(
        STEP_OVERHEAD * step_operations(RUN).total / 1e10
    )


@pytest.mark.parametrize(
    ("field", "part"),
    [("logit_seconds", "head"), ("adamw_seconds", "optimizer")],
)
def test_each_speed_has_its_part(field: str, part: str) -> None:
    run = RUN.changed(method="grpo", n_new_tokens=16) if part == "generation" else RUN
    before, after = (step_seconds(run, measured(**{field: value})) for value in (0.0, 1e-8))
    assert getattr(after, part) > getattr(before, part)
    assert after.blocks == before.blocks


def test_writing_a_token_takes_the_bytes_over_the_bandwidth() -> None:
    """Llama-2 7B in 16 bits on an H100: 13.2 GB of matrices and 1 GB of cache a step, whatever the card computes."""
    config = preset("llama-2-7b")
    run = RunSpec(config, "inference", seq_len=2048, n_rows=1, micro_batch_size=1, precision="bfloat16")
    n_bytes = decode_bytes(config, 2048, 1, 16)
    without_lookups = 2 * (config.n_params()["total"] - config.n_params()["token_embedding"])
    assert n_bytes == pytest.approx(without_lookups + 2 * 2 * 32 * 4096 * 2048, rel=0.001)
    assert step_seconds(run, find_machine("h100")).total == pytest.approx(n_bytes / (0.6 * 3350e9))
    many = run.changed(n_rows=512)
    assert (
        step_seconds(many, find_machine("h100")).total
        < 512 * step_seconds(run, find_machine("h100")).total / 5
    )


def test_a_teacher_costs_a_forward_pass() -> None:
    teacher = config_for_size("40m", 4096, 512).config
    run = RUN.changed(method="distill", teacher=teacher)
    assert step_seconds(run, measured()).other_models > 0
    assert step_operations(run).other_models > step_operations(RUN).forward


def test_speeds_between_widths_lie_between_theirs() -> None:
    points = [(64.0, 1e9), (256.0, 4e9)]
    assert interpolate(points, 128) == pytest.approx(2e9)
    assert interpolate(points, 10) == 1e9
    assert interpolate(points, 1000) == 4e9


def test_a_decoding_step_grows_evenly_with_what_it_reads_between_the_sizes_that_were_timed() -> None:
    """A call takes 0.1 ms and memory gives 10 GB/s: what lies between two points, and beyond them, follows."""
    taken = lambda n_bytes: 1e-4 + n_bytes / 1e10  # noqa: E731
    points = tuple((size, size / taken(size)) for size in (1e6, 1e7, 1e8))
    speeds = FLAT.replace(decoding=points)
    for n_bytes in (1e6, 3e6, 5e7, 1e9):
        assert speeds.decoding_seconds(n_bytes) == pytest.approx(taken(n_bytes), rel=0.01)
    assert speeds.decoding_seconds(1e3) > 0


def test_what_a_step_calls_counts_whatever_the_tokens() -> None:
    slow = measured(block_seconds=1e-3)
    few = RUN.changed(n_rows=2, micro_batch_size=1)
    added = step_seconds(few, slow).total - step_seconds(few, measured()).total
    assert added == pytest.approx(STEP_OVERHEAD * 2 * CONFIG.n_layers * 1e-3)  # two micro-batches


def test_rollouts_are_drawn_and_scored_at_the_speeds_of_the_engine() -> None:
    run = RUN.changed(method="grpo", n_new_tokens=32, group_size=8)
    plain = step_seconds(run, measured(scoring_flops=1e10))
    slow = step_seconds(run, measured(scoring_flops=1e10, scored_token_seconds=1e-3, sequence_seconds=1e-3))
    assert slow.other_models - plain.other_models == pytest.approx(run.n_tokens * 1e-3)
    assert slow.generation - plain.generation == pytest.approx(32 * run.n_rows * 1e-3)
    late = step_seconds(run, measured(scoring_flops=1e10, rollout_seconds=0.5))
    assert late.generation - plain.generation == pytest.approx(0.5)


def test_a_log_probability_costs_its_logits_and_a_block_the_rest_of_a_step() -> None:
    run = RUN.changed(method="dpo", n_rows=1, micro_batch_size=1)
    plain, slow = (
        step_seconds(run, measured(scored_training_logit_seconds=each)).head for each in (1e-12, 1e-9)
    )
    assert slow - plain == pytest.approx(STEP_OVERHEAD * run.n_tokens * CONFIG.vocab_size * (1e-9 - 1e-12))
    once = (
        step_seconds(run, measured(block_step_seconds=1e-3)).optimizer
        - step_seconds(run, measured()).optimizer
    )
    assert once == pytest.approx(CONFIG.n_layers * 1e-3)


def test_a_divergence_costs_its_logits_and_a_pair_the_scores_of_both_texts() -> None:
    run = RUN.changed(method="distill", teacher=CONFIG)
    added = step_seconds(run, measured(divergence_seconds=1e-9)).head - step_seconds(run, measured()).head
    assert added == pytest.approx(STEP_OVERHEAD * run.n_tokens * CONFIG.vocab_size * 1e-9)
    small = run.changed(config=config_for_size("1m", 4096, 512).config)  # whose chunks stay in the caches
    assert step_seconds(small, measured(divergence_seconds=1e-9)) == step_seconds(small, measured())
    assert (
        step_seconds(small, measured(small_divergence_seconds=1e-9)).head
        > step_seconds(small, measured()).head
    )
    pair, text = (step_seconds(RUN.changed(method=name), measured()) for name in ("dpo", "full"))
    assert pair.attention / pair.blocks > 3 * text.attention / text.blocks
