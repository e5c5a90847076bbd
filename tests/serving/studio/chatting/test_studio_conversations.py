"""Conversations as trees, in files, and as tuning data; what temperature does to a distribution."""

from __future__ import annotations

import json

import numpy as np
import pytest

from parakit.common.errors import UserError
from parakit.data.conversations.conversation import read_conversations
from parakit.serving.studio.chatting.conversation_store import ConversationStore
from parakit.serving.studio.chatting.conversation_tree import AnswerToken, ConversationTree
from parakit.serving.studio.chatting.distribution import at_temperature, next_token_view
from parakit.serving.studio.chatting.presets import PRESETS, answer_price, preset_of, sampling_from


def answered(system: str = "") -> ConversationTree:
    tree = ConversationTree(system=system)
    tree.add("user", "Hello <b>you</b>")
    tree.add("assistant", "Hi.").tokens = [
        AnswerToken(3, "Hi", -0.5, ((3, "Hi", -0.5),)),
        AnswerToken(4, "."),
    ]
    return tree


def test_an_edit_makes_a_branch_and_loses_nothing():
    tree = answered()
    first_user, first_answer = (turn.id for turn in tree.path())
    edited = tree.edit(first_user, "Good day")
    assert [turn.content for turn in tree.path()] == ["Good day"]
    tree.add("assistant", "Good day to you.")
    assert tree.versions(first_user) == [first_user, edited.id]
    tree.show_version(first_user)
    assert tree.head == first_answer
    assert [turn.content for turn in tree.path()] == ["Hello <b>you</b>", "Hi."]
    assert len(tree.leaves()) == 2


def test_a_saved_conversation_comes_back_with_its_branches(tmp_path):
    store, tree = ConversationStore(tmp_path), answered("Be brief.")
    tree.edit(tree.path()[0].id, "Other")
    store.save(tree)
    again = store.load(tree.id)
    assert (again.system, again.head, list(again.turns)) == (tree.system, tree.head, list(tree.turns))
    tokens = next(turn.tokens for turn in again.turns.values() if turn.tokens)
    assert [(t.token_id, t.text, t.log_probability) for t in tokens] == [(3, "Hi", -0.5), (4, ".", None)]
    [entry] = store.list()
    assert (entry.title, entry.n_turns) == ("Hello <b>you</b>", 3)
    store.delete(tree.id)
    assert store.list() == []


def test_the_export_is_what_fine_tuning_reads(tmp_path):
    store, tree = ConversationStore(tmp_path), answered("Be brief.")
    tree.edit(tree.path()[0].id, "Unanswered")
    store.save(tree)
    tree.show_version(next(iter(tree.turns)))
    store.save(tree)
    file, n = store.export(all_branches=True)
    [conversation] = read_conversations(file)
    assert n == 1
    assert [(m.role, m.content) for m in conversation.messages] == [
        ("system", "Be brief."),
        ("user", "Hello <b>you</b>"),
        ("assistant", "Hi."),
    ]
    assert store.export()[0] != file  # nothing is overwritten


@pytest.mark.parametrize("bad", ["../../etc/passwd", "", "x" * 16, "0123456789abcdef/.."])
def test_an_id_cannot_name_a_file_elsewhere(tmp_path, bad):
    with pytest.raises(UserError):
        ConversationStore(tmp_path).load(bad)


@pytest.mark.parametrize(
    "content", ["[]", '{"id": 1}', '{"id": "a", "system": "", "turns": [{}], "head": ""}']
)
def test_a_damaged_file_is_named_and_left_out_of_the_list(tmp_path, content):
    store = ConversationStore(tmp_path)
    store.folder.mkdir(parents=True)
    (store.folder / ("0" * 16 + ".json")).write_text(content)
    with pytest.raises(UserError, match="not a saved conversation"):
        store.load("0" * 16)
    assert store.list() == []


def test_export_without_answers_is_refused(tmp_path):
    with pytest.raises(UserError, match="no conversation"):
        ConversationStore(tmp_path).export()


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.2])
def test_temperature_equals_the_softmax_of_scaled_logits(temperature):
    logits = np.random.default_rng(0).normal(size=50) * 3
    logs = np.sort(logits - np.log(np.exp(logits).sum()))[::-1]
    expected = np.exp(logs / temperature) / np.exp(logs / temperature).sum()
    assert np.allclose(at_temperature(logs.tolist(), temperature), expected, atol=1e-12)


def test_temperature_0_takes_the_likeliest_and_the_view_reports_what_it_covers():
    view = next_token_view([(" a", float(np.log(0.6))), ("b", float(np.log(0.3)))], n_shown=5)
    assert view.probabilities[0] == (1.0, 0.0)
    assert view.covered == pytest.approx(0.9)
    assert view.tokens == (" a", "b")
    assert at_temperature([], 1.0) == []


def test_fields_become_settings_and_a_wrong_one_is_named():
    assert sampling_from({"temperature": 0.5, "seed": None, "top_k": 3.0}) == {"temperature": 0.5, "top_k": 3}
    assert all(preset_of(values) == name for name, values in PRESETS.items())
    assert preset_of({"temperature": 0.33}) is None
    with pytest.raises(UserError, match="temperature"):
        sampling_from({"temperature": -1})


def test_an_answer_costs_what_was_read_and_written():
    from parakit.planning.costs import api_bill, known_prices

    name = next(iter(known_prices().tokens))
    assert answer_price(1000, 200, name) == api_bill(name, 1000, 200)[0]


def test_a_saved_file_is_json_of_text(tmp_path):
    store, tree = ConversationStore(tmp_path), answered()
    store.save(tree)
    saved = json.loads((store.folder / f"{tree.id}.json").read_text())
    assert saved["turns"][0]["content"] == "Hello <b>you</b>"
