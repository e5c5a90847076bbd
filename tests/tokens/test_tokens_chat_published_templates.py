"""Chat templates as people have them: those that trl ships, several by name, with the date, in each place of a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Conversation, Message
from parakit.data.conversations.messages import ToolCall
from parakit.inference.generation.text import prompt_ids
from parakit.tokens import Tokenizer, compile_chat, write_shards
from parakit.tokens.chat.template import response_prefix, stop_ids
from parakit.tokens.shards import TokenShards
from tests.attacks.chat_templates import CONVERSATIONS, WEATHER, attack, compare, trl_templates, with_markers

transformers = pytest.importorskip("transformers")
CHATML = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
WITH_TOOLS = "{{ tools | tojson }}" + CHATML
HELLO = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "there"}]
# Those that do most with a text; `test_every_template_and_random_conversations` has all.
SOME = ("gemma3", "glm4moe_training", "gptoss", "llama3_2", "qwen3")


def saved(tokenizer: Tokenizer, folder: Path, **config: Any) -> Path:
    """The folder of a tokenizer without a template of its own, with these keys in its settings."""
    tokenizer.chat_template = None
    tokenizer.save(folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | config), "utf-8")
    return folder


@pytest.fixture
def plain(byte_bpe: Tokenizer) -> Tokenizer:
    return Tokenizer(byte_bpe.json, kind=byte_bpe.kind, special=byte_bpe.special)


@pytest.mark.skipif(not trl_templates(), reason="trl is not installed")
@pytest.mark.parametrize("name", SOME)
def test_templates_that_trl_ships_have_the_ids_of_transformers(
    name: str, byte_bpe: Tokenizer, tmp_path: Path
) -> None:
    tokenizer = with_markers(byte_bpe, trl_templates()[name])
    tokenizer.save(tmp_path)
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path)
    n_equal = 0
    for messages, tools in CONVERSATIONS.values():
        outcome, reason = compare(tokenizer, reference, messages, tools, prompt=False)
        assert outcome in ("equal", "both refuse"), reason
        n_equal += outcome == "equal"
    assert n_equal >= 6


@pytest.mark.long
@pytest.mark.skipif(not trl_templates(), reason="trl is not installed")
def test_every_template_and_random_conversations() -> None:
    outcomes = attack(n=2, seed=3)
    assert set(outcomes) <= {"equal", "both refuse", "equal but for typed control tokens"}, outcomes
    assert outcomes["equal"] > 0.7 * outcomes.total()


@pytest.mark.skipif(not trl_templates(), reason="trl is not installed")
@pytest.mark.parametrize("name", [n for n in trl_templates() if n.endswith("_training")][2::11])
def test_the_loss_counts_what_a_template_marks_as_generated(
    name: str, byte_bpe: Tokenizer, tmp_path: Path
) -> None:
    """Where a template says what the assistant generates, that is counted, but for a turn's opening and for what follows
    its end.
    """
    tokenizer = with_markers(byte_bpe, trl_templates()[name])
    tokenizer.save(tmp_path)
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path)
    n = 0
    for kind in ("plain", "with system", "many turns", "tool results", "reasoning"):
        messages, tools = CONVERSATIONS[kind]
        try:
            marked = reference.apply_chat_template(
                messages, tools=tools, return_dict=True, return_assistant_tokens_mask=True
            )
        except Exception:  # no system prompt, no tools
            continue
        compiled = compile_chat(tokenizer, messages, tools=tools)
        wanted = [bool(mark) for mark in marked["assistant_masks"]]
        assert compiled.token_ids == marked["input_ids"]
        assert not any(c and not w for c, w in zip(compiled.loss_mask, wanted, strict=True)), name
        n += any(compiled.loss_mask)
        for i, (counts, is_marked) in enumerate(zip(compiled.loss_mask, wanted, strict=True)):
            if is_marked and not counts:  # an opening is followed by what counts, an end is preceded by it
                token = tokenizer.decode([compiled.token_ids[i]], skip_special=False)
                opens = any(compiled.loss_mask[i : i + 24])
                assert opens or not token.strip() or compiled.token_ids[i] == tokenizer.eos_id, (name, token)
    assert n or "idefics" in name or "llava" in name or "smolvlm" in name


def test_a_turn_that_only_calls_a_tool_counts_whole(byte_bpe: Tokenizer) -> None:
    """Name, arguments and marks of the call are learned, the result and the name in its turn are not."""
    template = (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.name ~ ': ' if m.name else '' }}{{ m.content or '' }}"
        "{% for c in m.tool_calls or [] %}[call]{{ c.function.name }}{{ c.function.arguments | tojson }}[/call]"
        "{% endfor %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    tokenizer = with_markers(byte_bpe, template)
    call = ToolCall("weather", '{"place": "Oslo", "n": 3}')
    conversation = Conversation(
        (
            Message("user", "how is it?"),
            Message("assistant", "", tool_calls=(call,)),
            Message("tool", "cold", name="weather"),
            Message("assistant", "it is cold"),
        ),
        tools=json.dumps([WEATHER]),
    )
    compiled = compile_chat(tokenizer, conversation)
    counted = [i for i, counts in zip(compiled.token_ids, compiled.loss_mask, strict=True) if counts]
    assert tokenizer.decode(counted, skip_special=False) == (
        '[call]weather{"place": "Oslo", "n": 3}[/call]<|end|>it is cold<|end|>'
    )


@pytest.mark.parametrize("place", ["config", "list", "mapping", "files", "file before config"])
def test_a_template_is_found_where_transformers_finds_it(
    plain: Tokenizer, tmp_path: Path, place: str
) -> None:
    named = {"default": CHATML, "tool_use": WITH_TOOLS}
    config: dict[str, Any] = {
        "config": {"chat_template": CHATML},
        "list": {"chat_template": [{"name": n, "template": t} for n, t in named.items()]},
        "mapping": {"chat_template": named},
        "file before config": {"chat_template": "another"},
    }.get(place, {})
    folder = saved(plain, tmp_path / "published", **config)
    if "file" in place:
        (folder / "chat_template.jinja").write_text(CHATML, "utf-8")
    if place == "files":
        (folder / "additional_chat_templates").mkdir()
        (folder / "additional_chat_templates" / "tool_use.jinja").write_text(WITH_TOOLS, "utf-8")
    Tokenizer.load(folder).save(tmp_path / "again")
    for one in (folder, tmp_path / "again"):
        reference, tokenizer = transformers.AutoTokenizer.from_pretrained(one), Tokenizer.load(one)
        for tools in (None, [WEATHER]):
            wanted = reference.apply_chat_template(HELLO, tools=tools, return_dict=False)
            assert compile_chat(tokenizer, HELLO, tools=tools).token_ids == wanted
    uses_tools = place in ("list", "mapping", "files")
    assert (compile_chat(tokenizer, HELLO, tools=[WEATHER]) != compile_chat(tokenizer, HELLO)) == uses_tools


def test_several_templates_without_a_default_are_named(plain: Tokenizer, tmp_path: Path) -> None:
    folder = saved(plain, tmp_path, chat_template=[{"name": "rag", "template": CHATML}])
    with pytest.raises(UserError, match="several chat templates, rag, and none is the default"):
        compile_chat(Tokenizer.load(folder), HELLO)
    saved(plain, tmp_path, chat_template=[{"name": "../rag", "template": CHATML}])
    with pytest.raises(UserError, match="no file name"):
        Tokenizer.load(folder)


def test_the_date_of_a_template_is_fixed_and_recorded(
    plain: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(plain, tmp_path / "published", chat_template="{{ strftime_now('%d %b %Y') }}" + CHATML)
    first = Tokenizer.load(folder)
    today = transformers.AutoTokenizer.from_pretrained(folder).apply_chat_template(HELLO, return_dict=False)
    assert compile_chat(first, HELLO).token_ids == today
    first.chat_date = "2024-02-29"
    first.save(tmp_path / "tuned")
    tuned = Tokenizer.load(tmp_path / "tuned")
    assert "29 Feb 2024" in tuned.decode(compile_chat(tuned, HELLO).token_ids)
    conversation = Conversation(tuple(Message(**one) for one in HELLO))
    write_shards({"train": [conversation]}, tuned, tmp_path / "shards")
    assert TokenShards.open(tmp_path / "shards", "train").chat_date == "2024-02-29"
    without_date = saved(plain, tmp_path / "other", chat_template=CHATML)
    Tokenizer.load(without_date).save(tmp_path / "again")
    assert "parakit_chat_date" not in (tmp_path / "again" / "tokenizer_config.json").read_text("utf-8")


@pytest.mark.parametrize(
    "template", ["{% if %}", "{{ raise_exception('no') }}", "{{ messages.no() }}", "{{ 1 // 0 }}"]
)
def test_a_plain_text_needs_no_template(byte_bpe: Tokenizer, template: str) -> None:
    tokenizer = Tokenizer(byte_bpe.json, kind=byte_bpe.kind, special=byte_bpe.special, chat_template=template)
    assert prompt_ids(tokenizer, "hello") == prompt_ids(byte_bpe, "hello")
    assert stop_ids(tokenizer) == (byte_bpe.eos_id,)
    assert response_prefix(tokenizer) == ""


@pytest.mark.parametrize(
    ("name", "data"), [("chat_template.jinja", b"\xff{{"), ("tokenizer_config.json", b"")]
)
def test_a_damaged_file_is_named(name: str, data: bytes, plain: Tokenizer, tmp_path: Path) -> None:
    folder = saved(plain, tmp_path, chat_template=CHATML, parakit_chat_date="soon")
    if data:
        (folder / name).write_bytes(data)
        config = folder / "tokenizer_config.json"
        config.write_text(config.read_text("utf-8").replace("soon", "2024-02-29"), "utf-8")
    with pytest.raises(UserError, match=name):
        Tokenizer.load(folder)


def test_markers_that_are_not_special_are_tokens_in_an_assistants_text_only(byte_bpe: Tokenizer) -> None:
    tokenizer = with_markers(byte_bpe, CHATML + "{# <think> </think> #}")
    think = tokenizer.special_tokens["<think>"]
    thought = "<think>a</think> b <|end|>"
    compiled = compile_chat(
        tokenizer, [{"role": "user", "content": thought}, {"role": "assistant", "content": thought}]
    )
    assert compiled.token_ids.count(think) == 1
    assert compiled.loss_mask[compiled.token_ids.index(think)]
    assert compiled.token_ids.count(tokenizer.turn_ids["end"]) == 2
