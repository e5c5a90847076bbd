"""LangChain and LiteLLM need no special case: what they get is what OpenAI's client gets."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import jsonschema
import pytest

from tests.serving.other_clients import QUESTION, WEATHER
from tests.serving.server_process import start_process

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".peers" / "clients" / "bin" / "python"


@pytest.mark.long  # its sibling with OpenAI's client is test_serving_chat.py
@pytest.mark.skipif(
    not PYTHON.exists(), reason="no .peers/clients: pip install langchain-openai litellm there"
)
def test_other_clients_get_what_the_official_one_gets(published_wide: Path, tmp_path: Path) -> None:
    import openai

    server = start_process(published_wide, tmp_path / "accounts.sqlite")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", timeout=60) as client:
        answer = client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": QUESTION}], temperature=0, max_tokens=12
        )
    command = [str(PYTHON), str(ROOT / "tests" / "serving" / "other_clients.py"), server.url, "tiny"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    server.kill()
    assert done.returncode == 0, done.stderr[-2000:]
    text, usage = answer.choices[0].message.content, answer.usage
    assert usage is not None
    for name, found in json.loads(done.stdout.splitlines()[-1]).items():
        texts = {key: one for key, one in found.items() if isinstance(one, str)}
        assert texts == dict.fromkeys(texts, text), name
        assert found["tokens"] == [usage.prompt_tokens, usage.completion_tokens]
        assert found["calls"]
        for call in found["calls"]:
            jsonschema.validate(call, WEATHER)
