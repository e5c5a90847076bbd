"""Answers with the probabilities of their tokens, as the pages get them from the server's own service."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parakit.data.conversations.conversation import Message
from parakit.inference.config import SamplingSettings
from parakit.serving.config import ServeConfig
from parakit.serving.generation.service import GenerationService
from parakit.serving.models.locations import ModelLocation
from parakit.serving.models.registry import Registry
from parakit.serving.studio.chatting.answers import N_ALTERNATIVES, ServedModelSource, StreamedAnswer

ASKED = (Message("user", "What is your name?"),)
GREEDY = SamplingSettings(temperature=0.0, max_new_tokens=12)


def with_source(folder: Path, work: Callable[[ServedModelSource], Coroutine[Any, Any, Any]]) -> Any:
    """The result of `work` on a model of the build, in a loop of another thread: playwright's runs in this one."""

    async def run() -> Any:
        registry = Registry([ModelLocation("m", folder)], ServeConfig(cache_memory=0.02, preload="none"))
        service = GenerationService(registry)
        try:
            return await work(ServedModelSource(service, "m"))
        finally:
            service.close()
            await registry.close()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, run()).result()


async def last(
    source: ServedModelSource, sampling: SamplingSettings, prefix: tuple[int, ...] = ()
) -> StreamedAnswer:
    answer = None
    async for one in source.answer(ASKED, sampling, prefix):
        answer = one
    assert answer is not None
    return answer


@pytest.fixture(scope="module")
def folder(studio_folder: Path) -> Path:
    return studio_folder / "builds" / "primer" / "finetune"


def test_an_answer_equals_that_of_the_loaded_model(folder):
    import parakit

    answer = with_source(folder, lambda source: last(source, GREEDY))
    [expected] = parakit.load(folder).completions(
        ASKED, temperature=0.0, max_new_tokens=12, log_probabilities=8
    )
    assert answer.text == expected.text
    assert [token.token_id for token in answer.tokens] == list(expected.token_ids)
    assert answer.figures.n_tokens == expected.n_tokens
    assert answer.figures.n_prompt_tokens == expected.n_prompt_tokens
    found = [token.log_probability for token in answer.tokens]
    np.testing.assert_allclose(found, [one.log_probability for one in expected.log_probabilities], atol=1e-4)
    for token in answer.tokens:
        logs = [log for _, _, log in token.alternatives]
        assert logs == sorted(logs, reverse=True)
        assert len(logs) == N_ALTERNATIVES


def test_going_on_from_a_token_gives_the_same_greedy_answer(folder):
    async def both(source: ServedModelSource) -> tuple[StreamedAnswer, StreamedAnswer]:
        whole = await last(source, GREEDY)
        kept = tuple(token.token_id for token in whole.tokens[:4])
        return whole, await last(source, SamplingSettings(temperature=0.0, max_new_tokens=8), kept)

    whole, again = with_source(folder, both)
    assert [token.token_id for token in again.tokens] == [token.token_id for token in whole.tokens]
    assert again.text == whole.text


def test_the_next_token_is_shown_with_its_distribution(folder):
    async def both(source: ServedModelSource) -> Any:
        return await source.next_tokens(ASKED), await last(source, GREEDY)

    view, answer = with_source(folder, both)
    assert view.probabilities[0][0] == 1.0
    first = answer.tokens[0]
    assert view.tokens[: len(first.alternatives)] == tuple(text for _, text, _ in first.alternatives)
    assert sum(view.probabilities[1]) > sum(view.probabilities[2])  # a higher temperature is flatter
    assert math.isclose(view.covered, 1.0, abs_tol=1e-3)  # the vocabulary has fewer than a thousand tokens


def test_an_iteration_that_is_left_frees_the_engine(folder):
    async def leave(source: ServedModelSource) -> int:
        parts = source.answer(ASKED, SamplingSettings(temperature=0.0, max_new_tokens=100))
        await anext(parts)
        await parts.aclose()
        return len(source.service.running)

    assert with_source(folder, leave) == 0
