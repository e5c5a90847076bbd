"""The stages behind tuning: preferences, every step of alignment, and the student.

Each step of alignment begins with the model that the step before made, and is a folder of its own named after its
method. A reward model stands beside that line: later steps are rewarded by it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from parakit.recipe.config import RecipeConfig
from parakit.recipe.graph import Stage, fingerprint
from parakit.stages.post_training_config import REWARDED, AlignStageConfig
from parakit.training.config import TrainingConfig

REWARD = "reward"


def later_stages(recipe: RecipeConfig, folder: Path, work: Path) -> list[Stage]:
    """The stages behind tuning, in order."""
    found = [_preferences(recipe)] if recipe.preferences is not None else []
    policy = "finetune" if recipe.tuned_for else "pretrain"
    for step in recipe.align:
        found.append(_align(recipe, step, policy, folder, work))
        policy = policy if step.method == REWARD else step.method
    if recipe.distill is not None:
        found.append(_distill(recipe, policy, folder, work))
    return found


def later_models(recipe: RecipeConfig) -> dict[str, str]:
    """The models that these stages make and that speak, each by the name of its stage."""
    return {
        name: name for name in speaking((step.method for step in recipe.align), recipe.distill is not None)
    }


def speaking(methods: Iterable[str], distilled: bool) -> list[str]:
    """Of these steps of alignment, and of distillation, the stages whose models speak, in their order."""
    return [*(method for method in methods if method != REWARD), *(["distill"] if distilled else [])]


def seeded(training: TrainingConfig, seed: int) -> Any:
    """The recipe's seed, unless the stage has its own."""
    return training if "seed" in training.model_fields_set else training.replace(seed=seed)


def _preferences(recipe: RecipeConfig) -> Stage:
    config = recipe.preferences
    assert config is not None
    settings = {"preferences": config.model_dump(mode="json"), "inputs": fingerprint(config.paths)}

    def run(out: Path) -> None:
        from parakit.stages.data import make_preferences

        make_preferences(config.primer or config.paths, out, config.validation_fraction, overwrite=True)

    return Stage("preferences", settings, (), run)


def _align(recipe: RecipeConfig, step: AlignStageConfig, policy: str, folder: Path, work: Path) -> Stage:
    training = seeded(step.settings(), recipe.seed)
    asking, learned = step.method not in (REWARD, "dpo"), _reward_of(recipe, step)
    data = "conversations" if asking else "preferences"
    parents = [policy, *([] if step.prompts else [data]), *([REWARD] if learned == REWARD else [])]
    settings: dict[str, Any] = {
        "training": training.model_dump(mode="json"),
        "method": step.method,
        "reward": learned,
        "prompts": fingerprint(step.prompts),
    }
    settings |= {"monitor_rewards": list(step.monitor_rewards)} if step.monitor_rewards else {}

    def run(out: Path) -> None:
        from parakit.stages.alignment import AlignJob, align
        from parakit.stages.data import make_prompts

        place = work / f"{step.method}.prompts"
        asked = make_prompts(step.method, step.prompts, place) if step.prompts else folder / data
        job = AlignJob(
            model=folder / policy,
            data=asked,
            work=work / step.method,
            training=training,
            method=step.method,
            reward=str(folder / REWARD) if learned == REWARD else learned,
            monitor_rewards=step.monitor_rewards,
        )
        align(job, out, overwrite=True)

    return Stage(step.method, settings, tuple(parents), run)


def _reward_of(recipe: RecipeConfig, step: AlignStageConfig) -> str | None:
    """What rewards a step: what it names, or the reward model that a step before it made."""
    if step.method not in REWARDED:
        return None
    before = recipe.align[: recipe.align.index(step)]
    return step.reward or (REWARD if any(other.method == REWARD for other in before) else None)


def _distill(recipe: RecipeConfig, teacher: str, folder: Path, work: Path) -> Stage:
    config = recipe.distill
    assert config is not None
    training = seeded(config.settings(), recipe.seed)
    shards = "conversation_shards" if recipe.tuned_for == "chat" else "shards"
    settings = {"training": training.model_dump(mode="json")}
    settings |= {"keep_layers": config.keep_layers, "size": config.size}

    def run(out: Path) -> None:
        from parakit.stages.distillation import DistillJob, StudentSpec, distill

        student = StudentSpec(keep_layers=config.keep_layers, size=config.size)
        job = DistillJob(folder / teacher, folder / shards, work / "distill", training, student)
        distill(job, out, overwrite=True)

    return Stage("distill", settings, (teacher, shards), run)
