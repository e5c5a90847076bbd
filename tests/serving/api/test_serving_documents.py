"""`/v1/answers`: from an index, with the passages that went in, refusals without the model, and updates of the index."""

from __future__ import annotations

from pathlib import Path

import pytest

from parakit.assistants.retrieval.config import IndexConfig
from parakit.assistants.retrieval.indexing import index_documents
from tests.serving.conftest import RunningServer, start_server


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "docs"
    folder.mkdir()
    (folder / "port.md").write_text("# Port\n\nThe server listens on port 8080.\n")
    index_documents(IndexConfig(paths=(str(folder),), encoder="none"), folder.parent / "handbook")
    return folder


@pytest.fixture(scope="module")
def served(docs: Path, published_wide: Path):
    server = start_server([f"wide={published_wide}"], documents=[str(docs.parent / "handbook")])
    yield server
    server.stop()


def answer(server: RunningServer, *contents: str, **body: object) -> dict:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": one} for i, one in enumerate(contents)]
    sent = {"model": "wide", "documents": "handbook", "messages": messages, "max_tokens": 4} | body
    with server.http as client:
        found: dict = client.post("/v1/answers", json=sent).json()
    return found


def test_an_answer_has_the_passages_that_went_in_and_is_counted(served):
    found = answer(served, "Which port does it listen on?")
    assert [one["source"] for one in found["passages"]] == ["docs/port.md"]
    assert found["usage"]["prompt_tokens"] == found["context"]["n_tokens"]
    assert found["usage"]["completion_tokens"] == 4


def test_a_refusal_without_the_model_costs_nothing(served):
    found = answer(served, "Which zebra eats grass?")
    assert (found["answer"], found["refused"]) == ("The documents do not say.", "nothing found")
    assert found["usage"]["total_tokens"] == 0


def test_a_follow_up_is_searched_with_its_conversation(served):
    found = answer(served, "Which port?", "8080.", "And which zebra?")
    assert found["query"] == "And which zebra? port"
    assert found["passages"]


def test_an_update_of_the_index_is_seen_by_the_next_question(served, docs):
    (docs / "zoo.md").write_text("# Zoo\n\nThe quagga is gone.\n")
    index_documents(IndexConfig(), docs.parent / "handbook")
    assert [one["source"] for one in answer(served, "Where is the quagga?")["passages"]] == ["docs/zoo.md"]
    with served.http as client:
        (listed,) = client.get("/v1/documents").json()["data"]
    assert (listed["id"], listed["n_files"], listed["has_vectors"]) == ("handbook", 2, False)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"documents": "handbok"}, 404, "did you mean 'handbook'"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, 400, "the last one is the question"),
        ({"by": "vectors"}, 400, "has no vectors"),
        ({"messages": [{"role": "user", "content": "port " * 6000}]}, 400, "the question has"),
        ({"max_tokens": 4096}, 400, "leaves nothing"),
    ],
)
def test_what_is_wrong_is_named(served, body, status, words):
    sent = {
        "model": "wide",
        "documents": "handbook",
        "messages": [{"role": "user", "content": "Which port?"}],
    }
    with served.http as client:
        reply = client.post("/v1/answers", json=sent | body)
    assert reply.status_code == status
    assert words in reply.json()["error"]["message"]
