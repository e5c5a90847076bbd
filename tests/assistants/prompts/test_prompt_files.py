"""Prompt files: templates, fields, examples, where the answer is, and the library."""

from __future__ import annotations

import pytest

from parakit.assistants.prompts.library import ORDER, library_prompts, open_prompt, open_prompts
from parakit.assistants.prompts.prompt import PromptTemplate, read_prompt, with_values
from parakit.common.errors import UserError


def parse(**settings: object) -> PromptTemplate:
    return PromptTemplate.parse({"name": "one", "template": "Review: {{ review }}"} | settings)


def test_examples_are_earlier_turns_in_the_prompts_own_form():
    prompt = parse(
        system="You read {{ what }}.",
        values={"what": "reviews"},
        reply="It is {{ answer }}.",
        examples=[{"review": "A joy.", "answer": "positive"}],
    )
    assert prompt.fields == ("review", "what")
    assert prompt.required == ("review",)
    drawn = {"review": "Dull.", "answer": "negative"}
    assert [(one.role, one.content) for one in prompt.messages({"review": "Fine."}, [drawn])] == [
        ("system", "You read reviews."),
        ("user", "Review: Dull."),
        ("assistant", "It is negative."),
        ("user", "Review: A joy."),
        ("assistant", "It is positive."),
        ("user", "Review: Fine."),
    ]
    assert prompt.messages({"review": "x", "what": "films"})[0].content == "You read films."


def test_a_value_is_text_and_no_template():
    (message,) = parse().messages({"review": "{{ 7 * 7 }} {% raw %}"})
    assert message.content == "Review: {{ 7 * 7 }} {% raw %}"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exampels": []}, "did you mean `examples`"),
        ({"template": "{{ review"}, "the template is invalid in line 1"),
        ({"examples": [{"answer": "positive"}]}, "example 1 lacks the field 'review'"),
        ({"examples": [{"review": "A", "answer": "b", "anwser": "c"}]}, "did you mean 'answer'"),
        ({"answer_after": "A:", "answer_key": "answer"}, "two places of one answer"),
        ({"answer_choices": ["yes"]}, "two or more different answers"),
        ({"name": "../up"}, "name"),
    ],
)
def test_a_mistake_is_named(settings: dict[str, object], message: str):
    with pytest.raises(UserError) as caught:
        parse(**settings)
    assert message in str(caught.value)


def test_a_field_that_an_item_lacks_is_named_with_the_nearest_one():
    with pytest.raises(UserError, match=r"reads the field 'review'.*\n.*did you mean 'reviews'"):
        parse().messages({"reviews": "A joy."})


def test_a_template_has_no_attributes():
    with pytest.raises(UserError, match="template fails"):
        parse(template="{{ review.__class__.__mro__ }}").messages({"review": "x"})


@pytest.mark.parametrize(
    ("settings", "reply", "answer"),
    [
        ({}, " 12 ", "12"),
        ({"answer_after": "The answer is"}, "3 + 4 = 7. the ANSWER is: **7**.\nBye.", "7"),
        ({"answer_after": "The answer is"}, "The answer is 3? No. The answer is 4.", "4"),
        ({"answer_after": "The answer is"}, "Seven.", None),
        ({"answer_after": "The answer is"}, "The answer is", ""),
        ({"answer_key": "answer"}, 'Here: {"answer": "seven"} ok', "seven"),
        ({"answer_key": "answer"}, '{"answer": [1, 2]}', "[1, 2]"),
        ({"answer_key": "answer"}, '{"result": 1}', None),
        ({"answer_key": "answer"}, '{"answer": "cut', None),
    ],
)
def test_the_answer_is_taken_out_of_a_reply(settings: dict[str, object], reply: str, answer: str | None):
    assert parse(**settings).answer_in(reply) == answer


def test_the_library_has_a_prompt_of_each_kind():
    prompts = library_prompts()
    assert [prompt.kind for prompt in prompts] == list(ORDER)
    assert len({prompt.digest for prompt in prompts}) == len(ORDER)
    for prompt in prompts:
        assert prompt.summary
        assert prompt.required == ("question",)
        assert "Why?" in prompt.messages({"question": "Why?"})[-1].content


def test_a_prompt_is_opened_by_name_or_file(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("template: '{{ question }}!'\n")
    assert read_prompt(file).name == "mine"
    assert open_prompt(str(file)).messages({"question": "So"})[0].content == "So!"
    with pytest.raises(UserError, match="did you mean chain_of_thought"):
        open_prompt("chain-of-thougt")
    with pytest.raises(UserError, match="both have the name"):
        open_prompts((str(file), str(file)))
    file.write_text("- a\n")
    with pytest.raises(UserError, match="no mapping"):
        read_prompt(file)


def test_a_value_can_be_set_where_a_template_reads_it():
    prompt = with_values(open_prompt("role"), {"role": "a baker"})
    assert prompt.messages({"question": "?"})[0].content == "You are a baker. You answer briefly and exactly."
    with pytest.raises(UserError, match=r"no field 'rol'.*\n.*did you mean 'role'"):
        with_values(prompt, {"rol": "a baker"})
