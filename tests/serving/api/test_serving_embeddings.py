"""`/v1/embeddings` through the official client: the library's vectors, of encoders and of decoders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

import parakit
from tests.serving.conftest import RunningServer, start_server

TEXTS = ["the small bird", "a red tree and an old house", "rain"]


@pytest.fixture(scope="module")
def server(published_decoder: Path, published_encoder: Path) -> Iterator[RunningServer]:
    running = start_server([f"decoder={published_decoder}", f"encoder={published_encoder}"])
    yield running
    running.stop()


@pytest.fixture
def embedder(server: RunningServer) -> Iterator[openai.OpenAI]:
    with server.client as client:
        yield client


def vectors_of(answer: Any) -> np.ndarray:
    assert [one.index for one in answer.data] == list(range(len(answer.data)))
    return np.array([one.embedding for one in answer.data], np.float32)


@pytest.mark.parametrize("name", ["decoder", "encoder"])
def test_the_vectors_are_those_of_the_library(
    name: str, embedder: openai.OpenAI, published_decoder: Path, published_encoder: Path
) -> None:
    model = parakit.load({"decoder": published_decoder, "encoder": published_encoder}[name])
    expected = model.embed(TEXTS)
    answer = embedder.embeddings.create(model=name, input=TEXTS, encoding_format="float")
    np.testing.assert_allclose(vectors_of(answer), expected, atol=1e-6)
    packed = embedder.embeddings.create(model=name, input=TEXTS)  # the client's default is base64
    np.testing.assert_allclose(vectors_of(packed), expected, atol=1e-6)
    n_special = 2 if name == "encoder" else 0
    n_tokens = sum(len(model.tokenizer.encode(text)) + n_special for text in TEXTS)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == n_tokens
    one = embedder.embeddings.create(model=name, input=TEXTS[1])
    np.testing.assert_allclose(vectors_of(one)[0], expected[1], atol=1e-5)


def test_fewer_dimensions_have_length_one_again(embedder: openai.OpenAI) -> None:
    whole = vectors_of(embedder.embeddings.create(model="encoder", input=TEXTS))
    short = vectors_of(embedder.embeddings.create(model="encoder", input=TEXTS, dimensions=5))
    assert short.shape == (3, 5)
    expected = whole[:, :5] / np.linalg.norm(whole[:, :5], axis=1, keepdims=True)
    np.testing.assert_allclose(short, expected, atol=1e-6)


def test_the_ids_of_the_models_own_tokenizer_are_the_text(
    embedder: openai.OpenAI, published_decoder: Path
) -> None:
    ids = parakit.load(published_decoder).tokenizer.encode(TEXTS[0])
    by_text = vectors_of(embedder.embeddings.create(model="decoder", input=TEXTS[0]))
    by_ids = vectors_of(embedder.embeddings.create(model="decoder", input=list(ids)))
    np.testing.assert_array_equal(by_text, by_ids)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "ids of another tokenizer": ({"input": [100_257, 5]}, "another model's tokenizer"),
    "a control token": ({"input": [1, 2]}, "another model's tokenizer"),
    "empty": ({"input": ["a", ""]}, "input.1: is an empty text"),
    "too long": ({"input": "bird " * 300}, r"has \d+ tokens, and the model's context window holds 96"),
    "dimensions": ({"input": "a", "dimensions": 99}, "vectors have 32"),
    "no inputs": ({"input": []}, "input"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_embedded_is_a_400(case: str, embedder: openai.OpenAI) -> None:
    settings, reason = REFUSED[case]
    with pytest.raises(openai.BadRequestError, match=reason):
        embedder.embeddings.create(model="decoder", **settings)


def test_a_long_text_is_cut_where_the_request_says_so(embedder: openai.OpenAI) -> None:
    extra = {"truncation": "auto"}
    answer = embedder.embeddings.create(model="decoder", input="bird " * 300, extra_body=extra)
    assert answer.usage.prompt_tokens == 96


def test_an_encoder_does_not_chat(embedder: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="embed"):
        embedder.chat.completions.create(model="encoder", messages=[{"role": "user", "content": "a"}])
