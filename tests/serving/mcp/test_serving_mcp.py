"""Parakit as an MCP server, driven by the official client: its tools on a tiny model, errors as results, nothing outside the
folder.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import parakit
from parakit.assistants.retrieval.config import IndexConfig
from parakit.assistants.retrieval.indexing import index_documents
from parakit.assistants.tools.mcp_server import mcp_server
from parakit.serving.mcp.tools import INSTRUCTIONS, ParakitTools
from tests.alignment.tiny_chat_model import chat_model_folder

mcp = pytest.importorskip("mcp")
NAMES = [
    *(
        "list_models",
        "describe",
        "generate",
        "chat",
        "next_tokens",
        "search",
        "evaluate",
        "build",
        "job_status",
        "stop_job",
    ),
]


def _driven(server: Any, drive: Callable[[Any], Awaitable[None]]) -> None:
    async def run() -> None:
        async with mcp.Client(server) as client:
            await drive(client)

    asyncio.run(run())


def test_the_official_client_lists_generates_inspects_and_reads_errors(tmp_path: Path) -> None:
    chat_model_folder(tmp_path / "models" / "tiny")
    (tmp_path.parent / "outside.txt").write_text("secret")
    tools = ParakitTools(tmp_path, "cpu")
    server = mcp_server(tools.box(), "parakit", parakit.__version__, INSTRUCTIONS)
    model = parakit.load(tmp_path / "models" / "tiny", device="cpu")

    async def drive(client: Any) -> None:
        async def call(name: str, **arguments: object) -> tuple[str, bool]:
            result = await client.call_tool(name, arguments)
            return result.content[0].text, bool(result.is_error)

        listed = (await client.list_tools()).tools
        assert [tool.name for tool in listed] == NAMES
        assert [tool.name for tool in listed if not tool.annotations.read_only_hint] == ["build", "stop_job"]
        assert "model" in listed[2].input_schema["properties"]
        assert await call("list_models") == ('["models/tiny"]', False)
        expected = model.generate("How do", max_new_tokens=5, temperature=0)
        assert await call("generate", model="models/tiny", prompt="How do", max_new_tokens=5) == (
            expected,
            False,
        )
        turns = [{"role": "user", "content": "How?"}]
        answer = model.chat(turns, max_new_tokens=5, temperature=0)
        assert await call("chat", model="models/tiny", messages=turns, max_new_tokens=5) == (answer, False)
        text, _ = await call("next_tokens", model="models/tiny", text="How do", n_tokens=3)
        top = model.logits("How do")[-1].softmax(-1).topk(3)
        assert [row["token_id"] for row in json.loads(text)] == top.indices.tolist()
        for path in ("../outside.txt", "/etc", "nothing"):
            text, is_error = await call("generate", model=path, prompt="a")
            assert is_error
            assert "secret" not in text
        text, is_error = await call("generate", model="models/tiny")
        assert is_error
        assert "prompt: field required" in text
        (tmp_path / "notes").mkdir()
        (tmp_path / "notes" / "boat.md").write_text("# Boats\n\nThe red boat belongs to Anna.\n")
        index_documents(IndexConfig(paths=(str(tmp_path / "notes"),), encoder="none"), tmp_path / "index")
        found = json.loads((await call("search", index="index", query="Whose is the red boat?"))[0])
        assert "belongs to Anna" in found[0]["text"]
        assert await call("job_status", job="job-9") == ("error: there is no job 'job-9'", True)
        _, is_error = await call("evaluate", model="models/tiny", tasks=["--output"])
        assert is_error

    try:
        _driven(server, drive)
    finally:
        tools.jobs.close()


def test_commands_run_as_jobs_and_their_failures_are_read(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("nonsense: 1\n")
    tools = ParakitTools(tmp_path, "cpu")
    try:
        state = tools.build("bad.yaml")
        state = tools.job_status(state["job"], 60.0)
        assert state["state"] == "failed with status 2"
        assert "nonsense" in " ".join(state["messages"])
        assert tools.stop_job(state["job"]) == "ended"
    finally:
        tools.jobs.close()


@pytest.mark.long
def test_the_command_speaks_over_standard_input_and_output(tmp_path: Path) -> None:
    chat_model_folder(tmp_path / "tiny")
    parameters = mcp.StdioServerParameters(
        command=sys.executable,
        args=["-m", "parakit", "mcp", str(tmp_path), "--device", "cpu"],
        env={"PYTHONPATH": ":".join(sys.path)},
    )

    async def drive(client: Any) -> None:
        assert [tool.name for tool in (await client.list_tools()).tools] == NAMES
        result = await client.call_tool("list_models", {})
        assert result.content[0].text == '["tiny"]'
        described = await client.call_tool("describe", {"path": "tiny"})
        assert not described.is_error
        assert json.loads(described.content[0].text)

    _driven(parameters, drive)
