"""Models by name: loaded when they are needed, unloaded when another needs their place, adapters over one base."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import openai
import pytest
import torch

import parakit
from parakit.checkpoints.adapters import save_adapter
from parakit.checkpoints.loading import load_model
from parakit.common.artifacts import Lineage
from parakit.common.errors import UserError
from parakit.model.adapters import LoraConfig, attach, make_lora
from parakit.serving.config import ServeConfig
from parakit.serving.errors import ModelUnavailable, OutOfMemory, UnknownModel
from parakit.serving.models.locations import ModelLocation, locate_models
from parakit.serving.models.registry import Registry
from tests.serving.conftest import RunningServer

MESSAGES = [{"role": "user", "content": "a red tree"}]


def write_adapter(base: Path, folder: Path, seed: int) -> Path:
    model, _ = load_model(base)
    adapter = make_lora(model, LoraConfig(rank=2, alpha=4.0, targets=("query", "output")))
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters().values():
            parameter.normal_(std=0.5)
    attach(model, adapter)
    return save_adapter(model, adapter, base, folder, Lineage("adapter"), False)


def test_adapters_of_one_base_answer_as_they_do_alone(
    published_decoder: Path, tmp_path: Path, make_server: Callable[..., RunningServer]
) -> None:
    adapters = [write_adapter(published_decoder, tmp_path / name, i) for i, name in enumerate("ab")]
    server = make_server([f"tiny={published_decoder}"], [str(adapters[0]), f"other={adapters[1]}"])
    names = ["tiny", "tiny:a", "tiny:other"]
    assert [one.id for one in server.client.models.list()] == names
    assert server.client.models.retrieve("tiny:a").parent == "tiny"  # type: ignore[attr-defined]
    texts = []
    for name, folder in zip(names, [published_decoder, *adapters], strict=True):
        [alone] = parakit.load(folder).completions(MESSAGES, max_new_tokens=8, temperature=0)
        found = server.client.chat.completions.create(
            model=name, messages=MESSAGES, max_tokens=8, temperature=0
        )
        assert found.choices[0].message.content == alone.text
        texts.append(alone.text)
    assert len(set(texts)) == 3
    with pytest.raises(openai.NotFoundError, match="tiny:other"):
        server.client.chat.completions.create(model="tiny:othr", messages=MESSAGES)


def three_models(folder: Path, **settings: float) -> Registry:
    names = ["one", "two", "three"]
    return Registry([ModelLocation(name, folder) for name in names], ServeConfig(**settings))  # type: ignore[arg-type]


def test_the_least_recently_used_model_gives_its_place(published_decoder: Path) -> None:
    async def run() -> None:
        registry = three_models(published_decoder, cache_memory=0.001)
        size = (await registry.load("one")).memory_bytes
        await registry.close()
        registry = three_models(published_decoder, cache_memory=0.001, model_memory=2.5 * size / 2**30)
        for name in ("one", "two", "one"):
            await registry.load(name)
        await registry.load("three")
        assert [one.name for one in registry.loaded] == ["one", "three"]
        async with registry.open("one"), registry.open("three"):
            with pytest.raises(OutOfMemory, match=r"two .*with one, three"):
                await registry.load("two")
        assert not registry.n_users("two")
        async with registry.open("one"):
            assert not await registry.unload("one")
            await registry.load("two")
            assert [one.name for one in registry.loaded] == ["one", "two"]
        await registry.close()
        assert registry.loaded == []

    asyncio.run(run())


def test_a_model_is_loaded_once_for_requests_that_come_together(published_decoder: Path) -> None:
    async def run() -> None:
        registry = three_models(published_decoder, cache_memory=0.001)
        models = await asyncio.gather(*(registry.load("one") for _ in range(4)))
        assert len({id(one) for one in models}) == 1
        await registry.close()

    asyncio.run(run())


def test_a_folder_that_vanished_is_unavailable_and_the_reason_is_not_public(tmp_path: Path) -> None:
    async def run() -> None:
        registry = Registry([ModelLocation("gone", tmp_path / "gone")])
        with pytest.raises(ModelUnavailable, match="gone cannot be loaded") as caught:
            await registry.load("gone")
        assert str(tmp_path) not in str(caught.value)
        assert str(tmp_path) in str(caught.value.reason)

    asyncio.run(run())


def test_names_come_from_folders_or_are_given(published_decoder: Path, tmp_path: Path) -> None:
    found = locate_models([str(published_decoder), f"b={published_decoder}"])
    assert [one.name for one in found] == ["tiny-llama", "b"]
    with pytest.raises(UserError, match="two models are called"):
        locate_models([str(published_decoder), str(published_decoder)])
    with pytest.raises(UserError, match="cannot be the name"):
        locate_models([f"a:b={published_decoder}"])
    (tmp_path / "notes").mkdir()
    with pytest.raises(UserError, match="not a model folder"):
        locate_models([str(tmp_path / "notes")])
    with pytest.raises(UserError, match="is a model, not an adapter"):
        locate_models([str(published_decoder)], [str(published_decoder)])
    with pytest.raises(UnknownModel, match="did you mean tiny-llama"):
        Registry(found).resolve("tiny-lama")


def test_an_encoder_does_not_chat(published_encoder: Path, make_server: Callable[..., RunningServer]) -> None:
    client = make_server([f"bert={published_encoder}"]).client
    with pytest.raises(openai.BadRequestError, match="it is an encoder that predicts masked tokens"):
        client.chat.completions.create(model="bert", messages=MESSAGES)
