"""Batches: through the official client, over a restart of the server, and from the command line with a kill in between."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest

import parakit
from parakit.cli.main import main
from parakit.common.errors import UserError
from parakit.serving.accounts.database import open_database
from parakit.serving.batches.lines import LineResult, read_lines
from parakit.serving.batches.runner import BatchRun
from parakit.serving.batches.store import FileStore
from tests.sample_text import sentences
from tests.serving.conftest import RunningServer, start_server
from tests.serving.server_process import start_process
from tests.waiting import wait_until

N = 6


def line(number: int, **more: Any) -> dict[str, Any]:
    question = " ".join(sentences(number, 2).split()[: 3 + 2 * number])
    messages = [{"role": "user", "content": question}]
    body = {"model": "tiny", "messages": messages, "max_tokens": 6, "temperature": 0} | more
    url = "/v1/chat/completions"
    return {"custom_id": f"line {number}", "method": "POST", "url": url, "body": body}


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def answers(published_decoder: Path) -> dict[str, str]:
    """What the library answers."""
    model = parakit.load(published_decoder)
    return {
        row["custom_id"]: model.chat(row["body"]["messages"], max_new_tokens=6, temperature=0)
        for row in map(line, range(N))
    }


def texts_of(rows: list[dict[str, Any]]) -> dict[str, str]:
    return {row["custom_id"]: row["response"]["body"]["choices"][0]["message"]["content"] for row in rows}


def wait_for(client: openai.OpenAI, batch_id: str, *statuses: str) -> Any:
    def ended() -> Any:
        batch = client.batches.retrieve(batch_id)
        return batch if batch.status in statuses else None

    return wait_until(ended)


def test_the_official_client_uploads_runs_and_reads_a_batch(
    tiny_server: RunningServer, tmp_path: Path, answers: dict[str, str]
) -> None:
    rows = [*map(line, range(N)), line(N, max_tokens=-1)]
    with tiny_server.client as client:
        with open(written(tmp_path / "in.jsonl", rows), "rb") as file:
            uploaded = client.files.create(file=file, purpose="batch")
        assert client.files.retrieve(uploaded.id).filename == "in.jsonl"
        batch = client.batches.create(
            input_file_id=uploaded.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"name": "first"},
        )
        batch = wait_for(client, batch.id, "completed")
        counts = batch.request_counts
        assert (counts.total, counts.completed, counts.failed) == (N + 1, N, 1)
        assert batch.metadata == {"name": "first"}
        found = [json.loads(text) for text in client.files.content(batch.output_file_id).text.splitlines()]
        assert texts_of(found) == answers
        [failed] = [json.loads(text) for text in client.files.content(batch.error_file_id).text.splitlines()]
        assert failed["custom_id"] == f"line {N}"
        assert "max_tokens" in failed["error"]["message"]
        assert batch.id in [one.id for one in client.batches.list()]
        ids = {one.id for one in client.files.list()}
        assert {uploaded.id, batch.output_file_id, batch.error_file_id} <= ids
        client.files.delete(uploaded.id)
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve(uploaded.id)


REFUSED: dict[str, tuple[str, str]] = {
    "no JSON": ("{", "line 1: is no JSON"),
    "twice": ((json.dumps(line(0)) + "\n") * 2, "line 2: custom_id 'line 0' is there twice"),
    "another url": (json.dumps(line(0) | {"url": "/v1/chat"}), "url '/v1/chat' is not one of a batch"),
    "a stream": (json.dumps(line(0, stream=True)), "line 1: stream is set"),
    "misspelled": (json.dumps(line(0) | {"custom": 1}), "unknown key 'custom'"),
    "nothing": ("\n", "the file has no lines"),
    "another endpoint": (json.dumps(line(0) | {"url": "/v1/embeddings"}), "the batch's endpoint is"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_is_no_batch_is_refused_with_its_line(case: str) -> None:
    content, reason = REFUSED[case]
    with pytest.raises(UserError) as caught:
        read_lines(content.encode().splitlines(), "/v1/chat/completions")
    assert reason in str(caught.value)


def test_a_restarted_server_continues_a_batch(
    published_decoder: Path, tmp_path: Path, answers: dict[str, str]
) -> None:
    models, data_dir = [f"tiny={published_decoder}"], str(tmp_path / "data")
    first = start_server(models, data_dir=data_dir)
    service = first.context.parts["batches"]
    first.context.service.is_draining = True  # so that no line is answered
    with first.client as client:
        with open(written(tmp_path / "in.jsonl", list(map(line, range(N)))), "rb") as file:
            uploaded = client.files.create(file=file, purpose="batch")
        batch = client.batches.create(
            input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        wait_until(lambda: not service._runs)
        assert client.batches.retrieve(batch.id).status == "in_progress"
    first.stop()
    second = start_server(models, data_dir=data_dir)
    with second.client as client:
        done = wait_for(client, batch.id, "completed")
        found = [json.loads(text) for text in client.files.content(done.output_file_id).text.splitlines()]
    second.stop()
    assert texts_of(found) == answers


@pytest.mark.long  # the sibling above does it without processes
def test_a_server_that_is_killed_in_a_batch_loses_and_doubles_nothing(
    published_decoder: Path, tmp_path: Path
) -> None:
    n, data_dir, accounts = 120, tmp_path / "data", tmp_path / "accounts.sqlite"
    rows = [line(i % N, max_tokens=30, seed=i, temperature=1.0) | {"custom_id": str(i)} for i in range(n)]
    options = ("--data-dir", str(data_dir))
    settings: dict[str, Any] = {"api_key": "none", "max_retries": 0, "timeout": 60}
    server = start_process(published_decoder, accounts, *options)
    with openai.OpenAI(base_url=f"{server.url}/v1", **settings) as client:
        with open(written(tmp_path / "in.jsonl", rows), "rb") as file:
            uploaded = client.files.create(file=file, purpose="batch")
        batch = client.batches.create(
            input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
    kept: dict[str, str] = {}
    for wanted in (20, 60):  # killed twice
        [record] = wait_until(lambda: list(data_dir.rglob(f"{batch.id}.answers")))
        wait_until(lambda record=record, wanted=wanted: record.read_bytes().count(b"\n") >= wanted)
        server.kill()
        complete = [text for text in record.read_text().splitlines(keepends=True) if text.endswith("\n")]
        assert wanted <= len(complete) < n
        found = {row["custom_id"]: row["id"] for row in (json.loads(text)["row"] for text in complete)}
        assert found | kept == found  # what was answered before the kill stays as it was
        kept = found
        server = start_process(published_decoder, accounts, *options)
    with openai.OpenAI(base_url=f"{server.url}/v1", **settings) as client:
        done = wait_for(client, batch.id, "completed")
        assert done.request_counts is not None
        assert (done.request_counts.completed, done.request_counts.failed) == (n, 0)
        answers = [json.loads(text) for text in client.files.content(done.output_file_id).text.splitlines()]
        files = [one.id for one in client.files.list()]
    server.process.terminate()
    server.stop(20)
    assert [row["custom_id"] for row in answers] == [row["custom_id"] for row in rows]
    assert kept.items() <= {row["custom_id"]: row["id"] for row in answers}.items()
    assert sorted(files) == sorted([uploaded.id, done.output_file_id])
    with contextlib.closing(open_database(accounts)) as connection:
        charged = {row[0] for row in connection.execute("SELECT request_id FROM requests")}
    assert {row["response"]["request_id"] for row in answers} <= charged


def test_a_cancelled_batch_keeps_what_was_answered(tiny_server: RunningServer, tmp_path: Path) -> None:
    rows = [line(0, max_tokens=40) | {"custom_id": str(i)} for i in range(200)]
    with tiny_server.client as client:
        with open(written(tmp_path / "in.jsonl", rows), "rb") as file:
            uploaded = client.files.create(file=file, purpose="batch")
        batch = client.batches.create(
            input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        client.batches.cancel(batch.id)
        batch = wait_for(client, batch.id, "cancelled")
        assert batch.request_counts.completed < 200
        with pytest.raises(openai.NotFoundError, match="no batch"):
            client.batches.retrieve("batch_" + 24 * "0")
        for path in ("../../etc/passwd", "..%2F..%2Fetc%2Fpasswd"):
            with pytest.raises(openai.NotFoundError):
                client.files.content(path)


def test_the_command_goes_on_after_a_kill(
    published_decoder: Path, tmp_path: Path, answers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = list(map(line, range(N)))
    batch, output = written(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    command = ["generate", str(published_decoder), "--batch", str(batch), "--output", str(output)]
    answer, computed = BatchRun._answer, []

    async def dies_after_two(self: BatchRun, executor: Any, one: Any) -> LineResult:
        if len(computed) == 2:
            while len(self.rows) < 2:
                await asyncio.sleep(0.01)
            raise UserError("the machine stops")
        computed.append(one.custom_id)
        return await answer(self, executor, one)

    monkeypatch.setattr(BatchRun, "_answer", dies_after_two)
    assert main(command) == 2
    assert not output.exists()
    kept = output.with_name("out.jsonl.partial").read_bytes()
    with open(output.with_name("out.jsonl.partial"), "ab") as file:
        file.write(b'{"id": "half a li')  # as a kill in the middle of a line leaves it

    async def counts(self: BatchRun, executor: Any, one: Any) -> LineResult:
        computed.append(one.custom_id)
        return await answer(self, executor, one)

    monkeypatch.setattr(BatchRun, "_answer", counts)
    n_kept = len(kept.splitlines())
    computed.clear()
    assert main(command) == 0
    assert len(computed) == N - n_kept
    found = [json.loads(text) for text in output.read_text().splitlines()]
    assert [row["custom_id"] for row in found] == [row["custom_id"] for row in rows]
    assert texts_of(found) == answers
    assert not output.with_name("out.jsonl.partial").exists()
    assert main(command) == 2  # the output is there: nothing is overwritten


@pytest.mark.long  # the sibling above does it without a process
def test_no_answer_is_lost_or_computed_twice_after_sigkill(published_decoder: Path, tmp_path: Path) -> None:
    rows = [line(i % N, max_tokens=30, seed=i, temperature=1.0) | {"custom_id": str(i)} for i in range(300)]
    batch, output = written(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    record = output.with_name("out.jsonl.partial")
    command = ["generate", str(published_decoder), "--batch", str(batch), "--output", str(output)]
    process = subprocess.Popen([sys.executable, "-m", "parakit", *command])
    wait_until(lambda: record.exists() and len(record.read_bytes().splitlines()) >= 40, seconds=120)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = [text for text in record.read_text().splitlines(keepends=True) if text.endswith("\n")]
    assert 40 <= len(before) < 300
    assert main(command) == 0
    found = {row["custom_id"]: row for row in map(json.loads, output.read_text().splitlines())}
    assert list(found) == [row["custom_id"] for row in rows]
    kept = [json.loads(text)["row"] for text in before]
    assert all(found[row["custom_id"]]["id"] == row["id"] for row in kept)


def test_the_longest_lines_come_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = read_lines([json.dumps(line(i)).encode() for i in (1, 4, 2, 0, 3)])
    run, order = BatchRun(lines, tmp_path / "record"), []

    async def answer(executor: Any, one: Any) -> LineResult:
        order.append(one.custom_id)
        return LineResult(one.custom_id, 200, "req-1", {})

    monkeypatch.setattr(run, "_answer", answer)
    asyncio.run(run.run(None, 1))  # type: ignore[arg-type]
    assert order == [f"line {i}" for i in (4, 3, 2, 1, 0)]
    assert [row["custom_id"] for row in run.rows] == [one.custom_id for one in lines]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--temperature", "0.5"], "--temperature has no effect with --batch"),
        (["a prompt"], "the prompt has no effect with --batch"),
    ],
)
def test_flags_of_a_single_prompt_are_refused(
    more: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = written(tmp_path / "in.jsonl", [line(0)])
    command = ["generate", "nowhere", *[one for one in more if " " in one]]
    flags = [one for one in more if " " not in one]
    assert main([*command, "--batch", str(batch), "--output", str(tmp_path / "out"), *flags]) == 2
    assert reason in capsys.readouterr().err
    assert main(["generate", "nowhere", "--batch", str(batch)]) == 2
    assert "--batch is set without --output" in capsys.readouterr().err


def test_the_files_of_another_key_are_not_found(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    kept = store.put("1", "a.jsonl", "batch", b"{}\n")
    assert store.get("1", kept["id"]) == kept
    assert store.get("2", kept["id"]) is None
    assert store.get("1", "../" + kept["id"]) is None
    assert store.all("2") == []
