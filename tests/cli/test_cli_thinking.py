"""Reasoning before an answer in the terminal: apart from the answer, hidden by choice, and never a part of the JSON text."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

import parakit
from parakit.cli.main import main
from parakit.cli.rendering.decoding.thinking import ReplyPrinter
from parakit.data.conversations.messages import Message
from parakit.inference.chat import ChatSession
from parakit.inference.chat_models.local import LocalChatModel
from parakit.inference.config import ChatConfig
from parakit.inference.tool_calls.reasoning import ReasoningDelta
from tests.tiny_published import write_decoder

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and m.reasoning_content %}<think>\n"
    "{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
# With these the tiny random model closes its reasoning after some tokens.
SAMPLING = {"max_new_tokens": 60, "temperature": 1.0, "seed": 7}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("thinking") / "model"
    return write_decoder(path, 1024, TEMPLATE, ["<think>", "</think>"])


@pytest.fixture(scope="module")
def flags(folder: Path) -> list[str]:
    closing = parakit.load(folder).tokenizer.special_tokens["</think>"]
    settings = [
        word for key, value in SAMPLING.items() for word in (f"--{key.replace('_', '-')}", str(value))
    ]
    return [*settings, "--logit-bias", json.dumps({str(closing): 3.5}), "--device", "cpu"]


def run(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    assert main(words) == 0
    found = capsys.readouterr()
    return found.out, found.err


def test_generate_shows_reasoning_apart_from_the_answer(folder: Path, flags: list[str], capsys) -> None:
    words = ["generate", str(folder), "the small bird", "--prompting", "chat", *flags]
    figures = json.loads(run([*words, "--json"], capsys)[0])
    assert figures["reasoning"]
    assert 0 < figures["n_reasoning_tokens"] < figures["n_tokens"]
    out, err = run(words, capsys)
    assert out.strip() == figures["text"].strip()
    assert "thinking: " in err
    hidden = run([*words, "--hide-thinking"], capsys)
    assert hidden[0] == out
    assert "thinking" not in hidden[1]
    assert "reasoning" not in json.loads(run([*words, "--hide-thinking", "--json"], capsys)[0])
    [first, second] = [
        json.loads(line) for line in run([*words, "--json", "--n", "2"], capsys)[0].splitlines()
    ]
    assert (first["text"], first["reasoning"]) == (figures["text"], figures["reasoning"])
    assert second["text"] != first["text"]


def test_chat_keeps_reasoning_apart_in_its_history(
    folder: Path, flags: list[str], capsys, monkeypatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("the small bird\n"))
    [line] = run(["chat", str(folder), "--json", *flags], capsys)[0].splitlines()
    answer = json.loads(line)
    assert answer["reasoning"]
    assert "think" not in answer["text"]
    model = parakit.load(folder, device="cpu")
    bias = {str(model.tokenizer.special_tokens["</think>"]): 3.5}
    sampling = model.sampling_config(**SAMPLING, logit_bias=bias)
    session: ChatSession = model.chat_session(ChatConfig(sampling=sampling))
    pieces = list(session.send("the small bird").answer or ())
    assert "".join(one.text for one in pieces if isinstance(one, ReasoningDelta)) == answer["reasoning"]
    assert "".join(one for one in pieces if isinstance(one, str)) == answer["text"]
    last = session.messages[-1]
    assert (last.content, last.reasoning_content) == (answer["text"], answer["reasoning"])


def test_reasoning_is_dimmed_on_a_terminal(capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    printer = ReplyPrinter(hide_thinking=False)
    for piece in (ReasoningDelta("Two \x1b[2J"), ReasoningDelta("birds."), "A ", "bird"):
        printer.show(piece)
    printer.finish()
    found = capsys.readouterr()
    assert found.out == "A bird\n"
    assert found.err == "\x1b[2mTwo \ufffd[2Jbirds.\x1b[0m\n\n"


def test_a_reply_that_is_only_reasoning_is_no_answer(folder: Path) -> None:
    model = LocalChatModel.load(folder)
    assert model.generate([(Message("user", "the small bird"),)], max_new_tokens=5) == [""]
