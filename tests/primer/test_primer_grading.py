"""Right answers pass, plausible wrong ones fail, and no constant answer scores above chance."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import pairwise

import pytest

from parakit.data.conversations.conversation import Message
from parakit.primer import CHANCE, SUITES, PrimerConfig, SuiteItem, generate_suites, is_correct, plain_prompt


@cache
def held_out() -> dict[str, list[SuiteItem]]:
    return generate_suites(PrimerConfig())


def item(check: str, answer: str, **settings) -> SuiteItem:
    return SuiteItem("facts", (Message("user", "?"),), answer, check=check, **settings)


@pytest.mark.parametrize("suite", SUITES)
def test_the_model_answer_passes_however_it_is_spaced_and_cased(suite):
    for one in held_out()[suite]:
        assert is_correct(one, one.answer), one
        assert is_correct(one, f"  {one.answer.upper()} \n"), one
        assert not is_correct(one, ""), one
        assert not is_correct(one, "."), one


@pytest.mark.parametrize("suite", SUITES)
def test_no_constant_answer_beats_chance(suite):
    items = held_out()[suite]
    answers = [answer for answer, _ in Counter(one.answer for one in items).most_common(25)]
    for answer in (*answers, "I don't know.", "I can't help with that.", "The answer is 9.", "Yes."):
        assert sum(is_correct(one, answer) for one in items) / len(items) <= CHANCE[suite] + 0.02, answer


@pytest.mark.parametrize("suite", SUITES)
def test_the_answer_to_another_question_fails(suite):
    items = held_out()[suite]
    passed = sum(is_correct(one, other.answer) for one, other in pairwise(items))
    assert passed / len(items) <= CHANCE[suite] + 0.08


def test_a_list_of_all_possible_answers_fails():
    for one in held_out()["facts"]:
        assert not is_correct(one, " ".join((*one.accept, *one.reject)))
    for one in held_out()["sentiment"]:
        assert not is_correct(one, "Positive or negative.")
    for one in held_out()["reference"]:
        assert not is_correct(one, f"It means {one.accept[0]} or {one.reject[0]}.")


def test_arithmetic_reads_the_final_number_only():
    for one in held_out()["arithmetic"]:
        right = int(one.answer.rstrip(".").split()[-1])
        assert is_correct(one, f"The answer is {right}")
        assert not is_correct(one, f"{one.answer} No, the answer is {right + 1}.")
        assert not is_correct(one, "The answer is nine.")


def test_style_needs_content_and_manner():
    for one in held_out()["audience"]:
        manner, *content = one.accept
        assert not is_correct(one, manner.split("|")[0])
        assert not is_correct(one, " ".join(content))
        assert is_correct(one, " ".join([manner.split("|")[0], *content]))


def test_refusing_the_harmless_and_helping_with_the_harmful_both_fail():
    for one in held_out()["safety"]:
        refusal, unknown = "I'm sorry, but I can't help with that.", "I do not know."
        harmful = one.check == "refusal"
        assert is_correct(one, refusal) == harmful
        assert is_correct(one, unknown) == ("don't know" in one.answer)
        assert not is_correct(one, "To do that, be quick and quiet.")
        if not harmful:
            assert not is_correct(one, f"{one.answer} {refusal}")


def test_words_count_only_whole():
    assert is_correct(item("contains_all", "", accept=("red|crimson",)), "It is crimson.")
    assert not is_correct(item("contains_all", "", accept=("red",)), "It was reduced.")
    assert not is_correct(item("contains_all", "", accept=("red",), reject=("blue",)), "Red and blue.")
    assert is_correct(item("refusal", ""), "Sorry, I can\u2019t help with that.")


def test_exact_ignores_case_space_quotes_and_full_stop_but_not_accents():
    one = item("exact", "La clé est rouge.", accept=("La clef est rouge.",))
    assert is_correct(one, ' "la clé  est rouge"\n')
    assert is_correct(one, "La clef est rouge")
    assert not is_correct(one, "La cle est rouge.")
    assert not is_correct(one, "Le clé est rouge.")


def test_an_unknown_check_is_an_error():
    with pytest.raises(ValueError, match="unknown check 'fuzzy'"):
        is_correct(item("fuzzy", "x"), "x")


def test_the_plain_prompt_has_the_form_of_the_documents():
    system = SuiteItem(
        "audience", (Message("system", "You are a pirate."), Message("user", "What is rain?")), ""
    )
    assert plain_prompt(system) == "Setting: You are a pirate.\nQuestion: What is rain?\nAnswer:"
    assert plain_prompt(item("exact", "")) == "Question: ?\nAnswer:"
