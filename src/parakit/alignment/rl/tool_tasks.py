"""Tasks with tools in RL: rollouts in which the policy calls the functions of the built-in world, and the outcome as reward.

A rollout is the whole conversation after the question; its loss counts what the policy wrote, never a result. The policy draws
from its own distribution, without the constraint of calls, whose probabilities would be others: a call that is none gets an
error as its result, and fails the task.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from parakit.alignment.config import RolloutConfig
from parakit.alignment.rl.prompts import RLPrompt, SampledCompletion
from parakit.alignment.rl.reward import RewardError
from parakit.common.errors import UserError
from parakit.data.conversations.messages import Message
from parakit.inference.config import SamplingConfig
from parakit.inference.engine import Engine, EngineConfig
from parakit.inference.tool_calls.episodes import Episode, run_episodes
from parakit.inference.tool_calls.tools import parse_tool
from parakit.model.heads import LanguageModel
from parakit.primer.tool_world import TOOLS, ToolTask, outcome, world_after
from parakit.tokens.tokenizer.tokenizer import Tokenizer

ROWS = 64  # conversations that run at once


def draw_episodes(
    policy: LanguageModel,
    tokenizer: Tokenizer,
    prompts: Sequence[RLPrompt],
    config: RolloutConfig,
    seed: int,
    temperature: float | None = None,
    first: int = 0,
) -> tuple[list[SampledCompletion], list[list[int]]]:
    """A conversation of the policy with the tools of each prompt, and the ids of all that follows the prompt. `first`: the
    number of the first one in its phase, which its random numbers depend on.
    """
    sampling = SamplingConfig(
        temperature=config.temperature if temperature is None else temperature,
        top_p=config.top_p,
        max_new_tokens=config.max_new_tokens,
    )
    tools = [parse_tool(row["function"]) for row in json.loads(TOOLS)]
    episodes = []
    for prompt in prompts:
        world = world_after(ToolTask.from_tests(prompt.tests), prompt.messages)
        episodes.append(
            Episode(
                list(prompt.messages),
                lambda call, world=world: world.call(call.name, call.arguments),  # type: ignore[misc]
                prompt.token_ids,
            )
        )
    engine = Engine(policy, tokenizer, EngineConfig(max_rows=ROWS))
    run_episodes(engine, tokenizer, episodes, tools, sampling, seed=seed, is_constrained=False, first=first)
    samples = []
    for prompt, episode in zip(prompts, episodes, strict=True):
        has_answer = episode.messages[-1].role == "assistant" and not episode.messages[-1].tool_calls
        turns = episode.messages[:-1] if has_answer else episode.messages
        samples.append(
            SampledCompletion(
                tuple(turns),
                prompt.answer,
                episode.messages[-1].content if has_answer else "",
                episode.outcome == "answered",
                prompt.tests,
                prompt.tools,
                tuple(episode.counted),
            )
        )
    return samples, [episode.token_ids for episode in episodes]


class ToolTaskReward:
    """1 where a task of the built-in world is solved with valid calls, else 0. `metrics`: of the tasks scored last, the share
    of calls that were valid, and calls a task.
    """

    name = "tool_tasks"

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}

    def check_prompts(self, prompts: Iterable[RLPrompt]) -> None:
        """`RewardError` for the first prompt that is no such task."""
        for prompt in prompts:
            self._task(SampledCompletion(prompt.messages, prompt.answer, "", tests=prompt.tests))

    def __call__(self, samples: Sequence[SampledCompletion]) -> list[float]:
        """One number for each conversation."""
        found = [
            outcome(self._task(one), [*one.messages, Message("assistant", one.completion)]) for one in samples
        ]
        n_calls = sum(one.n_calls for one in found)
        n_invalid = sum(one.n_invalid for one in found)
        self.metrics = {
            "valid_calls": 1 - n_invalid / n_calls if n_calls else 1.0,
            "calls": n_calls / max(len(found), 1),
        }
        return [float(one.is_solved and not one.n_invalid) for one in found]

    def _task(self, sample: SampledCompletion) -> ToolTask:
        try:
            return ToolTask.from_tests(sample.tests)
        except UserError as error:
            raise RewardError(f"{error.message}: {sample.describe()}", error.hint) from None
