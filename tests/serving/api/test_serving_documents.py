"""`/v1/answers`: from an index, with the passages that went in, refusals without the model, and updates of the index."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from parakit.assistants.retrieval.config import IndexConfig
from parakit.assistants.retrieval.indexing import index_documents
from parakit.serving.accounts.accounts import Accounts
from parakit.serving.accounts.database import open_database
from parakit.serving.accounts.keys import Quota, add_key
from parakit.serving.logs import LOGGER
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


def events(server: RunningServer, content: str, **body: object) -> list[dict]:
    messages = [{"role": "user", "content": content}]
    sent = {"model": "wide", "documents": "handbook", "messages": messages, "max_tokens": 4, "stream": True}
    with server.http as client, client.stream("POST", "/v1/answers", json=sent | body) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in reply.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def test_a_stream_has_the_passages_then_the_text_and_the_checked_answer(served):
    whole = answer(served, "Which port does it listen on?")
    first, *pieces, last = events(served, "Which port does it listen on?")
    assert (first["object"], last["object"]) == ("answer.passages", "answer")
    assert first["passages"] == whole["passages"] == last["passages"]
    assert {one["object"] for one in pieces} == {"answer.delta"}
    assert last.keys() == whole.keys()
    assert (last["answer"], last["citations"]) == (whole["answer"], whole["citations"])
    assert last["usage"]["completion_tokens"] == 4
    assert len({one["id"] for one in (first, *pieces, last)}) == 1


def test_a_refusal_is_streamed_without_text(served):
    first, last = events(served, "Which zebra eats grass?")
    assert (first["object"], first["passages"]) == ("answer.passages", [])
    assert (last["refused"], last["usage"]["total_tokens"]) == ("nothing found", 0)


def test_every_question_has_a_row_and_a_quota_comes_before_the_model(
    make_server: Callable[..., RunningServer],
    docs: Path,
    published_wide: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    path = tmp_path / "accounts.sqlite"
    connection = open_database(path)
    headers = {"Authorization": f"Bearer {add_key(connection, 'small', Quota(requests_per_minute=3))}"}
    connection.close()
    accounts = Accounts(path)
    models = [f"wide={published_wide}", f"other={published_wide}"]
    server = make_server(models, None, accounts, documents=[str(docs.parent / "handbook")])
    sent = {"documents": "handbook", "max_tokens": 2}
    statuses = []
    with (
        caplog.at_level(logging.INFO, LOGGER),
        httpx.Client(base_url=server.url, timeout=60, headers=headers) as client,
    ):
        for model, content in (
            ("wide", "Which port?"),
            ("wide", "Which zebra eats grass?"),
            ("wide", "port " * 6000),
            ("other", "Which port?"),
        ):
            body = sent | {"model": model, "messages": [{"role": "user", "content": content}]}
            statuses.append(client.post("/v1/answers", json=body).status_code)
    assert statuses == [200, 200, 400, 429]
    assert [one.name for one in server.context.registry.loaded] == ["wide"]
    server.stop()
    rows = accounts.connection.execute("SELECT outcome, prompt_tokens > 0 FROM requests ORDER BY clock")
    assert [tuple(row) for row in rows] == [("finished", 1), ("finished", 0), ("refused", 0), ("refused", 0)]
    accounts.close()
    assert "answers finished" in [one.message for one in caplog.records]


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
