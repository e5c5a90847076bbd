"""A chat session: history, commands, and a context window that is never overrun in silence."""

from __future__ import annotations

import copy
import itertools
import json

import pytest
import torch

from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Message
from parakit.inference.chat import COMMANDS, ChatSession, load_messages, save_messages
from parakit.inference.config import ChatConfig, SamplingConfig
from parakit.inference.folder_settings import is_chat_tuned
from parakit.inference.generation import completion
from parakit.inference.generation.text import generate
from parakit.model.adapters import AdapterSet, LoraConfig, make_lora
from tests.inference.conftest import build_model

GREEDY = SamplingConfig(temperature=0.0, max_new_tokens=6)


@pytest.fixture
def session(tiny_chat_model) -> ChatSession:
    return ChatSession(*tiny_chat_model, ChatConfig(sampling=GREEDY))


def speak(session: ChatSession, line: str) -> str:
    answer = session.handle(line).answer
    assert answer is not None
    return "".join(answer)


def roles(session: ChatSession) -> str:
    return "".join(message.role[0] for message in session.messages)


def test_an_answer_is_what_generate_gives_for_the_whole_history(tiny_chat_model, session):
    session.system = "a bird"
    first = speak(session, "the tree")
    assert (
        first
        == generate(*tiny_chat_model, [Message("system", "a bird"), Message("user", "the tree")], GREEDY).text
    )
    second = speak(session, "and")
    history = [Message("system", "a bird"), *session.messages[:-1]]
    assert second == generate(*tiny_chat_model, history, GREEDY).text
    assert roles(session) == "uaua"
    assert session.last is not None
    assert session.last.n_tokens > 0


def test_undo_retry_and_reset(session):
    first = speak(session, "the tree")
    speak(session, "the house")
    session.handle("/undo")
    assert roles(session) == "ua"
    assert speak(session, "/retry") == first
    assert roles(session) == "ua"
    session.handle("/reset")
    assert session.messages == []
    for command in ("/undo", "/retry", "/save x"):
        with pytest.raises(UserError, match="the conversation is empty"):
            session.handle(command)


def test_a_seeded_session_repeats_itself_and_retry_is_a_new_attempt(tiny_chat_model):
    config = ChatConfig(sampling=SamplingConfig(temperature=1.5, seed=1, max_new_tokens=12))
    sessions = [ChatSession(*tiny_chat_model, config) for _ in range(2)]
    answers = [[speak(s, "the tree"), speak(s, "/retry"), speak(s, "/retry")] for s in sessions]
    assert answers[0] == answers[1]
    assert len(set(answers[0])) == 3


def test_commands_set_show_and_explain(session):
    assert set(COMMANDS) == {line.split()[0][1:] for line in session.handle("/help").notice.splitlines()}
    session.handle("/system be brief")
    assert session.system == "be brief"
    assert "be brief" in session.handle("/system").notice
    assert session.handle("/temperature 0.25").notice == "temperature: 0.25"
    assert session.sampling.temperature == 0.25
    assert session.sampling.max_new_tokens == GREEDY.max_new_tokens
    with pytest.raises(UserError, match="temperature"):
        session.handle("/temperature hot")
    with pytest.raises(UserError, match="did you mean /retry"):
        session.handle("/retyr")
    assert session.handle("/quit").quit
    assert session.handle("/exit").quit
    assert session.handle("   ").answer is None
    assert "context window: " in session.handle("/help").notice or session.messages == []


def test_a_doubled_slash_begins_a_message(session):
    speak(session, "//help")
    assert session.messages[0].content == "/help"


def test_stats_count_tokens_and_speed(session):
    speak(session, "the tree")
    notice = session.handle("/stats").notice
    assert "of 64 tokens" in notice
    assert f"answers: 1, {session.last.n_tokens} tokens" in notice
    assert "tokens/s" in notice


def test_the_stats_of_an_answer_say_what_was_read_and_how_fast(session):
    speak(session, "the tree")
    last = session.last
    assert 0 < last.seconds_to_first_token <= last.seconds
    assert last.decode_tokens_per_second > 0
    stats = session.stats_of_last()
    assert f"read {last.n_prompt_tokens} tokens" in stats
    assert f"{last.n_prompt_tokens + last.n_tokens} of 64 tokens of context" in stats


def test_a_full_window_refuses_where_that_is_chosen_and_keeps_the_conversation(tiny_chat_model):
    session = ChatSession(*tiny_chat_model, ChatConfig(when_full="refuse", sampling=GREEDY))
    speak(session, "the tree")
    before = list(session.messages)
    with pytest.raises(UserError, match=r"conversation has \d+ tokens.* 64[^$]*/undo or /reset.*drop_oldest"):
        session.handle("bird " * 80)
    assert session.messages == before


def test_dropping_the_oldest_turns_is_reported_and_history_stays_whole(tiny_chat_model):
    session = ChatSession(*tiny_chat_model, ChatConfig(sampling=GREEDY, system="sing"))
    notices = []
    for n in range(10):
        reply = session.handle(f"the old house {n}")
        assert reply.answer is not None
        "".join(reply.answer)
        assert session.last.n_prompt_tokens + GREEDY.max_new_tokens <= 64
        notices.append(reply.notice)
    assert len(session.messages) == 20
    assert notices[0] == ""
    shown = [notice for notice in notices if notice]
    assert "“the old house 0”" in shown[0]
    for n in range(8):  # every turn is named once, when it goes
        assert sum(f"“the old house {n}”" in notice for notice in shown) <= 1
    assert "left out: " in session.handle("/stats").notice
    with pytest.raises(UserError, match="64"):
        session.handle("bird " * 80)
    session.handle("/reset")
    assert session.handle("the").notice == ""


def test_saved_conversations_come_back_and_are_tuning_data(session, tmp_path):
    from parakit.data import read_conversations

    session.handle("/system sing")
    speak(session, "the “tree”\n🌳")
    file = tmp_path / "talk.jsonl"
    session.handle(f"/save {file}")
    messages = list(session.messages)
    [conversation] = read_conversations(file)
    assert [message.role for message in conversation.messages] == ["system", "user", "assistant"]
    session.handle("/reset")
    session.system = ""
    session.handle(f"/load {file}")
    assert session.messages == messages
    assert session.system == "sing"
    session.handle(f"/save {file}")  # its own file may be replaced, another may not
    other = tmp_path / "other.jsonl"
    other.write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        session.handle(f"/save {other}")
    assert other.read_text() == "mine"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "no json",
        "[]",
        "{}",
        '{"messages": []}',
        '{"messages": [{"role": "king", "content": "x"}]}',
        '{"messages": [{"role": "user", "content": 1}]}',
        "\x00\xff",
        "[" * 100_000,
    ],
)
def test_a_file_that_holds_no_conversation_is_refused(session, tmp_path, content):
    file = tmp_path / "bad.jsonl"
    file.write_text(content)
    with pytest.raises(UserError, match=r"bad\.jsonl"):
        session.handle(f"/load {file}")
    assert session.messages == []


def test_files_that_are_not_there(session, tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_messages(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="does not exist"):
        save_messages(tmp_path / "no" / "x.jsonl", [Message("user", "a")])
    for command in ("/load", "/save"):
        with pytest.raises(UserError, match="no file is named"):
            session.handle(command)


def test_an_interrupted_answer_stays_in_the_history(session):
    reply = session.handle("the tree")
    piece = next(reply.answer)
    reply.answer.close()
    assert session.messages[-1] == Message("assistant", piece)
    assert session.last.finish_reason == "interrupted"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, False),
        ({"generation_config.json": {"chat": True}}, True),
        ({"generation_config.json": {"eos_token_id": 1}, "lineage.json": {"config": {"chat": True}}}, True),
        ({"lineage.json": {"config": {}, "result": {"chat": True}}}, True),
        ({"generation_config.json": {"chat": False}, "lineage.json": {"result": {"chat": True}}}, False),
        ({"lineage.json": {"config": None, "result": {"chat": "yes"}}}, False),
    ],
)
def test_a_model_folder_says_whether_it_was_tuned_for_chat(tmp_path, files, expected):
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    assert is_chat_tuned(tmp_path) is expected


def test_several_adapters_share_one_base(make_model, tiny_chat_model):
    """Each answers as the model with it on does, and the base is what it was."""
    model, tokenizer = copy.deepcopy(tiny_chat_model[0]), tiny_chat_model[1]
    adapters = AdapterSet(model)
    for seed, name in enumerate(("pirate", "robot")):
        torch.manual_seed(seed)
        adapter = make_lora(model, LoraConfig(rank=2, targets=("query", "value")))
        for parameter in adapter.parameters().values():
            parameter.data = torch.randn_like(parameter, dtype=torch.float64)
        adapters.add(name, adapter)
    session = ChatSession(model, tokenizer, ChatConfig(sampling=GREEDY), adapters)
    answers = {}
    for name in ("base", "pirate", "robot", "base"):
        notice = session.handle(f"/adapter {name}").notice
        assert f"* {name}" in notice.splitlines()
        session.handle("/reset")
        answers.setdefault(name, []).append(speak(session, "the tree"))
    assert answers["base"] == [generate(*tiny_chat_model, [Message("user", "the tree")], GREEDY).text] * 2
    assert len({texts[0] for texts in answers.values()}) == 3
    assert session.handle("/adapter").notice == "* base\n  pirate\n  robot"
    with pytest.raises(UserError, match="no adapter 'cook'"):
        session.handle("/adapter cook")
    with pytest.raises(UserError, match="there are none"):
        ChatSession(*tiny_chat_model).handle("/adapter")


def test_a_turn_reads_only_what_is_new_and_answers_as_if_it_read_everything(tiny_chat_model):
    model, tokenizer = tiny_chat_model
    roomy = build_model(model.config.replace(max_seq_len=600), torch.float64, seed=1)
    session = ChatSession(roomy, tokenizer, ChatConfig(sampling=GREEDY))
    n_read = []
    for n in range(5):
        answer = speak(session, f"the old house {n} sees a red tree")
        assert answer == generate(roomy, tokenizer, session.messages[:-1], GREEDY).text
        engine = session._engine
        assert engine is not None
        n_read.append(engine.statistics.n_prompt_tokens - engine.statistics.n_shared_tokens)
    per_turn = [after - before for before, after in itertools.pairwise(n_read)]
    # read again: a page at most, and the answer, whose text may be other tokens than the model chose
    assert max(per_turn) <= n_read[0] + 16 + GREEDY.max_new_tokens
    assert engine.statistics.n_shared_tokens > n_read[0]


def test_a_turn_encodes_its_conversation_once(session, monkeypatch):
    speak(session, "the tree")
    encoded, once = [], completion.compile_chat

    def compile_chat(*args, **settings):
        encoded.append(args)
        return once(*args, **settings)

    monkeypatch.setattr(completion, "compile_chat", compile_chat)
    speak(session, "the old house")
    assert len(encoded) == 1


def test_the_sessions_sampling_has_the_sessions_rule_for_a_full_window(tiny_chat_model):
    assert ChatSession(*tiny_chat_model, ChatConfig(sampling=GREEDY)).sampling.when_full == "drop_oldest"
    config = ChatConfig(sampling=GREEDY.replace(when_full="drop_oldest"), when_full="refuse")
    assert ChatSession(*tiny_chat_model, config).sampling.when_full == "refuse"
