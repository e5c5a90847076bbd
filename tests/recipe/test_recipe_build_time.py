"""The time of a build is shared by the stages that are still to come."""

from __future__ import annotations

import pytest

from parakit.recipe.build_time import EVALUATION_SHARE, LEAST_SHARE, PLAIN_EVALUATION_SECONDS, BuildTime

STAGES = ("pretrain", "finetune", "reward", "ppo", "distill")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def times(clock: Clock, stages=STAGES, has_start=False, **settings) -> BuildTime:
    return BuildTime(1000.0, stages, has_start, clock, **settings)


@pytest.mark.parametrize("has_start", [False, True])
def test_a_build_on_time_gives_every_stage_its_share(has_start):
    clock = Clock()
    build = times(clock, has_start=has_start)
    for stage in STAGES:
        budget = build.budget(stage)
        assert budget.seconds == pytest.approx(build.share(stage))
        assert budget.to_spec() == {"seconds": build.share(stage)}
        clock.now += budget.seconds
    assert build.spent == pytest.approx(sum(map(build.share, STAGES)))


@pytest.mark.parametrize("late", [-100.0, 200.0])
def test_a_late_stage_takes_from_the_later_ones_in_proportion(late):
    clock = Clock()
    build = times(clock)
    clock.now = build.share("pretrain") + late
    later = {stage: build.share(stage) for stage in STAGES[1:]}
    for stage, share in later.items():
        budget = build.budget(stage)
        assert budget.seconds == pytest.approx(share * (1 - late / sum(later.values())))
        assert budget.promised == share  # which a resume compares
        clock.now += budget.seconds
    assert clock.now == pytest.approx(1000 * (1 - EVALUATION_SHARE))


def test_a_build_whose_time_is_over_still_trains_a_little():
    clock = Clock()
    build = times(clock)
    clock.now = 2000.0
    assert build.budget("distill").seconds == pytest.approx(LEAST_SHARE * build.share("distill"))


def test_a_plain_build_keeps_a_minute_for_its_evaluation():
    assert times(Clock(), ("pretrain",)).share("pretrain") == 1000 - PLAIN_EVALUATION_SECONDS
    assert times(Clock(), ("pretrain",), has_evaluations=True).share("pretrain") == 920
    assert times(Clock(), ("pretrain",), has_start=True).share("pretrain") == 860
    assert BuildTime(100.0, ("pretrain",), False, Clock()).share("pretrain") == 92


def test_time_counts_across_interruptions_and_skipped_stages():
    clock = Clock()
    build = times(clock, ("pretrain", "finetune"))
    share = build.share("finetune")
    build.spent_before += 100.0  # an earlier process read the corpus
    budget = build.budget("pretrain")
    assert budget.seconds == pytest.approx((920.0 - 100.0) * 2 / 3)
    budget.used_before = 500.0  # of an interrupted run, whose checkpoint is read
    assert budget.left == pytest.approx(budget.seconds - 500.0)
    clock.now += budget.left
    assert build.budget("finetune").seconds == pytest.approx(share * (820.0 / 920.0))
    assert build.used_before("pretrain") == 500.0
