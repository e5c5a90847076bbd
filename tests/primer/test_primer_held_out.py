"""Nothing that the suites ask about was ever in training: no prompt, no combination, no sentence."""

from __future__ import annotations

import re
from functools import cache

import pytest

from parakit.primer import PrimerConfig, SuiteItem, generate_suites, plain_prompt
from parakit.primer.documents import SKILLS
from parakit.primer.generation import generate_conversations, generate_documents
from parakit.primer.statistics import question_sentences, sentences_of, training_texts

CONFIG = PrimerConfig()


@cache
def training() -> tuple[str, ...]:
    return tuple(training_texts(CONFIG))


@cache
def held_out() -> dict[str, list[SuiteItem]]:
    return generate_suites(CONFIG)


def inner_sentence(item: SuiteItem) -> str | None:
    """What the question is about, where it is quoted or stands after a colon."""
    question = item.messages[-1].content
    quoted = re.search(r'"(.+)"', question)
    if quoted:
        return quoted.group(1).lower()
    after = re.search(r": (.+?)[.?]?$", question)
    return after.group(1).lower() if after else None


def test_no_sentence_of_a_held_out_question_is_in_training():
    seen = {sentence for text in training() for sentence in sentences_of(text)}
    assert len(seen) > 50_000
    for items in held_out().values():
        for item in items:
            assert not question_sentences(item) & seen, item


def test_no_held_out_prompt_is_in_training():
    whole = set(training())
    blob = "\n".join(training())
    for items in held_out().values():
        assert not {item.messages[-1].content for item in items} & whole
        for item in items[
            ::10
        ]:  # anywhere, inside longer texts too; the sentences of all items are looked for above
            assert item.messages[-1].content not in blob
            assert plain_prompt(item) not in blob


def test_no_held_out_combination_is_drawn_for_training(monkeypatch):
    drawn: set[tuple[str, ...]] = set()

    def recording(draw):
        def recorded(random, held_out=False):
            exercise = draw(random, held_out)
            drawn.add(exercise.combination)
            return exercise

        return recorded

    for skill in SKILLS.values():
        monkeypatch.setattr(skill, "draw", recording(skill.draw))
    for _ in generate_documents(CONFIG):
        pass
    for _ in generate_conversations(CONFIG):
        pass
    monkeypatch.undo()
    assert {combination[0] for combination in drawn} == set(SKILLS)
    for items in held_out().values():
        assert not {item.combination for item in items} & drawn


@pytest.mark.parametrize("suite", ["translation", "sentiment", "reference", "agreement"])
def test_the_sentence_in_a_question_never_occurs_alone_in_training(suite):
    pieces = {
        piece.strip(" '").lower()
        for text in training()
        for piece in re.split(r'[.!?:"\n]', text)
        if piece.strip()
    }
    checked = 0
    for item in held_out()[suite]:
        inner = inner_sentence(item)
        if inner is None or item.combination[-1].startswith("phrasing"):
            continue  # a single word is held out by its phrasing
        checked += 1
        assert inner not in pieces, item
        if suite == "translation":
            assert item.answer.lower().rstrip(".") not in pieces, item
    assert checked > 150


def test_numbers_objects_and_names_are_new_together():
    """Independently of the keyed hash: no training story has a held-out person with the held-out objects."""
    pairs = {item.combination[1:3] for item in held_out()["arithmetic"]}
    chains = {item.combination[3] for item in held_out()["arithmetic"]}
    assert len(pairs) > 40
    assert len(chains) > 150
    owners = re.compile(r"(\w+) (?:has|owns|starts with) \d+ (\w+)[.,]")
    found = {match for text in training() for match in owners.findall(text)}
    assert len(found) > 200
    assert not found & pairs


def test_other_seeds_and_sizes_hold_out_the_same():
    seen = {sentence for text in training() for sentence in sentences_of(text)}
    for item in (
        item for items in generate_suites(PrimerConfig(seed=9, n_suite_items=60)).values() for item in items
    ):
        assert not question_sentences(item) & seen
