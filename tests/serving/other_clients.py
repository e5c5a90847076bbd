"""Other clients than OpenAI's against a server, as they are, run by the Python in `.peers/clients`.

    .peers/clients/bin/python tests/serving/other_clients.py http://127.0.0.1:8000 MODEL

Prints one JSON object: what LangChain and LiteLLM got. They are installed apart (`pip install langchain-openai litellm`), and
LiteLLM takes its price list from its package instead of the network.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

QUESTION = "the small bird"
WEATHER = {
    "type": "object",
    "properties": {"place": {"enum": ["Oslo", "Rome"]}},
    "required": ["place"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "The weather.", "parameters": WEATHER},
}


def langchain(url: str, model: str) -> dict[str, Any]:
    from langchain_openai import ChatOpenAI

    settings: dict[str, Any] = {"base_url": f"{url}/v1", "api_key": "none", "model": model, "max_retries": 0}
    chat = ChatOpenAI(**settings, temperature=0, max_tokens=12)
    calling = ChatOpenAI(**settings, temperature=0, max_tokens=120).bind_tools([TOOL], tool_choice="required")
    responses = ChatOpenAI(**settings, temperature=0, max_tokens=12, use_responses_api=True)
    answer = chat.invoke(QUESTION)
    return {
        "text": answer.content,
        "tokens": [answer.usage_metadata["input_tokens"], answer.usage_metadata["output_tokens"]],
        "streamed": "".join(chunk.content for chunk in chat.stream(QUESTION)),
        "responses": "".join(part["text"] for part in responses.invoke(QUESTION).content),
        "calls": [call["args"] for call in calling.invoke(QUESTION).tool_calls],
    }


def litellm(url: str, model: str) -> dict[str, Any]:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm as client

    messages = [{"role": "user", "content": QUESTION}]
    settings: dict[str, Any] = {"api_key": "none", "temperature": 0, "num_retries": 0, "messages": messages}
    openai: dict[str, Any] = {"model": f"openai/{model}", "api_base": f"{url}/v1", **settings}
    anthropic: dict[str, Any] = {"model": f"anthropic/{model}", "api_base": url, **settings}
    answer = client.completion(**openai, max_tokens=12)
    chunks = client.completion(**openai, max_tokens=12, stream=True)
    called = client.completion(**openai, max_tokens=120, tools=[TOOL], tool_choice="required")
    return {
        "text": answer.choices[0].message.content,
        "tokens": [answer.usage.prompt_tokens, answer.usage.completion_tokens],
        "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in chunks),
        "messages": client.completion(**anthropic, max_tokens=12).choices[0].message.content,
        "calls": [json.loads(call.function.arguments) for call in called.choices[0].message.tool_calls],
    }


if __name__ == "__main__":
    print(json.dumps({one.__name__: one(*sys.argv[1:3]) for one in (langchain, litellm)}))
