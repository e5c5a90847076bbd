"""The primer is deterministic, lazy, balanced and varied, and never contradicts its own world."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from itertools import islice

import pytest

from parakit.common.errors import UserError
from parakit.primer import (
    PrimerConfig,
    compute_statistics,
    generate_conversations,
    generate_documents,
    generate_suites,
)
from parakit.primer.documents import KINDS as DOCUMENT_KINDS
from parakit.primer.grading import SUITES
from parakit.primer.seeded_random import Random, is_held_out
from parakit.primer.skills import agreement, audience, sentiment
from parakit.primer.skills.facts import CORES, FACTS
from parakit.primer.world import ANIMALS, GERUND, KINDS, PEOPLE, TOWNS

SMALL = PrimerConfig(n_documents=150, n_conversations=150, n_suite_items=16)
_DIGEST = """
import hashlib
from parakit.primer import PrimerConfig, generate_conversations, generate_documents, generate_suites
config = PrimerConfig(n_documents=150, n_conversations=150, n_suite_items=16)
parts = [*generate_documents(config), *generate_conversations(config), generate_suites(config)]
print(hashlib.sha256(repr(parts).encode()).hexdigest())
"""


def test_every_process_writes_the_same_primer():
    parts = [*generate_documents(SMALL), *generate_conversations(SMALL), generate_suites(SMALL)]
    here = hashlib.sha256(repr(parts).encode()).hexdigest()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        run = subprocess.run(
            [sys.executable, "-c", _DIGEST], env=environment, capture_output=True, text=True, check=True
        )
        assert run.stdout.strip() == here


def test_the_seed_changes_the_draws():
    other = SMALL.model_copy(update={"seed": 1})
    assert list(generate_documents(SMALL)) != list(generate_documents(other))
    assert list(generate_conversations(SMALL)) != list(generate_conversations(other))
    assert generate_suites(SMALL) != generate_suites(other)


def test_documents_stream_and_a_larger_number_continues_the_stream():
    huge = PrimerConfig(n_documents=10**12, n_conversations=10**12)
    assert list(islice(generate_documents(huge), 150)) == list(generate_documents(SMALL))
    assert list(islice(generate_conversations(huge), 150)) == list(generate_conversations(SMALL))


def test_every_suite_has_the_requested_items_all_distinct_in_balanced_classes():
    for config in (PrimerConfig(), PrimerConfig(n_suite_items=300)):
        found = generate_suites(config)
        assert tuple(found) == SUITES
        for name, items in found.items():
            assert len({item.messages for item in items}) == len(items) == config.n_suite_items
            assert {item.suite for item in items} == {name}
    sizes = Counter(item.answer.rpartition(": ")[2] for item in generate_suites(PrimerConfig())["sentiment"])
    assert sizes == {"positive.": 125, "negative.": 125}
    kinds = Counter(
        item.check + str("don't know" in item.answer) for item in generate_suites(PrimerConfig())["safety"]
    )
    assert all(82 <= count <= 84 for count in kinds.values())
    assert len(kinds) == 3


def test_more_items_than_there_are_is_an_error_with_the_number():
    with pytest.raises(UserError, match="n_suite_items=40000"):
        generate_suites(PrimerConfig(n_suite_items=40_000))


def test_prompts_and_answers_are_short():
    for items in generate_suites(PrimerConfig()).values():
        for item in items:
            assert len(item.messages[-1].content) <= 320
            assert len(item.answer) <= 130


def test_conversations_are_well_formed_and_alive():
    roles = Counter()
    system = turns = 0
    talks = list(generate_conversations(PrimerConfig(n_conversations=2000)))
    for talk in talks:
        message_roles = [message.role for message in talk.messages]
        system += message_roles[0] == "system"
        spoken = message_roles[1:] if message_roles[0] == "system" else message_roles
        assert spoken == ["user", "assistant"] * (len(spoken) // 2)
        assert spoken
        turns += len(spoken) > 2
        roles.update(message_roles)
        assert all(message.content.strip() == message.content != "" for message in talk.messages)
    assert system > 80
    assert turns > 300
    assert any("My name is Parakit." in message.content for talk in talks for message in talk.messages)


def test_every_kind_of_document_has_whole_sentences():
    random = Random(3, "kinds")
    for kind, (write, _) in DOCUMENT_KINDS.items():
        for _ in range(60):
            text = write(random)
            assert text.strip() == text, kind
            assert "{" not in text, kind
            assert "  " not in text, kind
            assert not re.search(r"\b(a|an) (a|an|the)\b|\ban [bcdfghjklmnpqrstvwxz]|\ba [aeio]\w", text), (
                text
            )


def test_documents_state_every_fact_many_times_and_none_against_the_world():
    text = "\n".join(document.text for document in generate_documents(PrimerConfig(n_documents=4000)))
    told = Counter(
        re.findall(r"\b([A-Z]\w+) (lives in|works as|belongs to|is known for its) (?:an? )?(\w+)", text)
    )
    told += Counter(re.findall(r"([Tt]he (?:favourite food|colour|hobby)) of (\w+) is (\w+)", text))
    true = {(person.name, "lives in", person.town) for person in PEOPLE}
    true |= {(person.name, "works as", person.job) for person in PEOPLE}
    true |= {(animal.name, "belongs to", animal.owner) for animal in ANIMALS}
    true |= {(town.name, "is known for its", town.goods) for town in TOWNS}
    for the in ("The", "the"):
        true |= {(f"{the} favourite food", person.name, person.food) for person in PEOPLE}
        true |= {(f"{the} hobby", person.name, GERUND[person.hobby]) for person in PEOPLE}
        true |= {(f"{the} colour", animal.name, animal.colour) for animal in ANIMALS}
    assert {(who, how, what) for who, how, what in told if who not in ("He", "She", "It", "That")} <= true
    assert told.total() > 800
    kinds = set(re.findall(rf"\b([A-Z]\w+) is an? ({'|'.join(KINDS)})\b", text))
    assert {(animal.name, animal.kind) for animal in ANIMALS} == {
        k for k in kinds if k[0] not in ("It", "There")
    }


def test_training_has_a_question_about_every_fact():
    for fact in FACTS:
        sides = [
            is_held_out(25, "facts", fact.relation, fact.about, core) for core, _ in CORES[fact.relation]
        ]
        assert not all(sides), fact


def test_the_primer_is_no_list_of_templates():
    found = compute_statistics(PrimerConfig(n_documents=5000, n_conversations=4000, n_suite_items=250))
    assert found["held_out_sentences_seen"] == 0.0
    assert found["held_out_sentences"] > 2000
    assert found["documents"]["distinct_share"] > 0.99
    assert found["documents"]["distinct_sentence_share"] > 0.40
    assert found["stories"]["distinct_sentence_share"] > 0.40
    assert 500 <= found["documents"]["n_word_types"] <= 1400
    assert found["conversations"]["distinct_share"] > 0.80


def test_sentiment_follows_an_independent_reading():
    good, bad = set(sentiment.GOOD), set(sentiment.BAD)
    random = Random(0, "test")
    for held_out in (False, True):
        for _ in range(1500):
            _, text, label = sentiment.opinion(random, held_out)
            words = text.split()
            flips = sum(text.count(phrase) for phrase in (" not ", " never ", "far from"))
            cheer = sum(
                word in good | {"liked", "loved", "enjoyed", "like", "enjoy", "happy"} for word in words
            )
            gloom = sum(word in bad | {"hated", "sad"} for word in words)
            assert cheer + gloom == 1
            assert flips <= 1
            assert (label == "positive") == ((cheer == 1) != (flips == 1))


def test_agreement_follows_the_head_noun():
    plurals = {plural for _, plural in agreement.THINGS + agreement.LIVING}
    random = Random(0, "test")
    opposed = 0
    for _ in range(1000):
        exercise = agreement.draw(random, held_out=True)
        _, head, distractor, _, right = exercise.combination
        assert (
            right in {"are", "were", "have"} or ((right + "s").endswith("s") and not right.endswith("s"))
        ) == (head in plurals), exercise
        opposed += (head in plurals) != (distractor in plurals)
    assert opposed > 650


def test_every_topic_has_an_answer_for_every_audience():
    random = Random(0, "test")
    found = {(audience_.name, topic.name) for topic in audience.TOPICS for audience_ in audience.AUDIENCES}
    drawn = set()
    for _ in range(4000):
        exercise = audience.draw(random)
        drawn.add((exercise.label, exercise.combination[1]))
    assert drawn == found


def test_a_quarter_is_a_quarter_and_never_changes():
    held = [is_held_out(25, "test", str(number)) for number in range(4000)]
    assert 900 < sum(held) < 1100
    assert [is_held_out(25, "a", "b"), is_held_out(25, "ab", ""), is_held_out(25, "facts", "home")] == [
        is_held_out.__wrapped__(25, "a", "b"),
        is_held_out.__wrapped__(25, "ab", ""),
        is_held_out.__wrapped__(25, "facts", "home"),
    ]
