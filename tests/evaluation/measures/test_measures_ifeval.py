"""IFEval's kinds of instruction: what follows each of them and what does not, strictly and loosely, and broken rows."""

from __future__ import annotations

import pytest

from parakit.common.errors import UserError
from parakit.evaluation.measures import ifeval
from parakit.evaluation.measures.answers import GeneratedAnswers
from parakit.evaluation.measures.ifeval import measure_ifeval
from parakit.evaluation.measures.instructions import CHECKS, LANGUAGE_KINDS, follows, loose_variants

CASES = [  # kind, settings, answers that follow, answers that do not
    ("keywords:existence", {"keywords": ["war", "peace"]}, ["Peace, not WARs."], ["war only"]),
    ("keywords:frequency", {"keyword": "the", "frequency": 2, "relation": "at least"}, ["The other"], ["the"]),
    ("keywords:frequency", {"keyword": "the", "frequency": 2, "relation": "less than"}, ["the"], ["the the"]),
    ("keywords:forbidden_words", {"forbidden_words": ["it", "run"]}, ["with running"], ["Run!", "do it."]),
    ("keywords:letter_frequency", {"letter": "q", "let_frequency": 2, "let_relation": "at least"}, ["Qq"], ["q"]),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "at least"},
     ["One. Two.", "Is it? Yes!"], ["One.", "Mr. Smith is here."]),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, ["two words."], ["a b c"]),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2},
     ["one *** two", "***\none\n***\ntwo"], ["one", "one *** *** two", "a***b***c"]),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "elm"},
     ["One.\n\nElm, and", "One.\n\n\"elm's"], ["One.\n\nThe elm", "Elm\n\nelm\n\nelm", "elm"]),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, ["[a] and [b c]"], ["[a"]),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["Bye.\nP. P. S. More"], ["P.S. More"]),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, ["Bye. p.s. more"], ["PS more"]),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, ["* a\n- b"], ["* a", "** a\n* b", "* a\n* b\n- c"]),
    ("detectable_format:constrained_response", {}, ["I say: My answer is maybe."], ["yes"]),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, ["*a* *b*"], ["*a*", "* * **"]),
    ("detectable_format:multiple_sections", {"num_sections": 2, "section_spliter": "Section"},
     ["Section 1\na\nSection2\nb"], ["Section 1", "SECTION 1 SECTION 2"]),
    ("detectable_format:json_format", {}, ['```json\n{"a": 1}\n```', "[1]"], ['{"a": 1', "Here: {}"]),
    ("detectable_format:title", {}, ["<<A song>>\nla"], ["<< >>", "<A song>"]),
    ("combination:two_responses", {}, ["a\n******\nb"], ["a****** a", "a", "a******b******c", "a************b"]),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hello. "}, ["say hello. Hello."], ["Hello. Say hello."]),
    ("startend:end_checker", {"end_phrase": "Any other questions?"}, ['"No. any other questions?"'], ["No."]),
    ("startend:quotation", {}, [' "a" '], ['"', 'a"']),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"},
     ["A well-KNOWN TOP-TEN"], ["A small one"]),
    ("punctuation:no_comma", {}, ["none"], ["a, b"]),
]  # fmt: skip
LANGUAGES = [
    ("language:response_language", {"language": "de"}, ["Das ist ein schöner Tag, und wir gehen heute in den Wald."],
     ["This is a fine day, and we walk into the wood."]),
    ("change_case:english_capital", {}, ["THIS IS A FINE DAY AND WE WALK INTO THE WOOD."], ["This is a fine day."]),
    ("change_case:english_lowercase", {}, ["this is a fine day and we walk into the wood."],
     ["This is a day.", "das ist ein schöner tag, und wir gehen heute in den wald."]),
]  # fmt: skip
ROWS = [
    {"key": 1, "prompt": "Write no commas, two bullets.", "kwargs": [{}, {"num_bullets": 2}],
     "instruction_id_list": ["punctuation:no_comma", "detectable_format:number_bullet_lists"]},
    {"key": 2, "prompt": "Write no commas.", "kwargs": [{}], "instruction_id_list": ["punctuation:no_comma"]},
]  # fmt: skip


@pytest.mark.parametrize(("kind", "settings", "good", "bad"), CASES, ids=lambda value: str(value)[:30])
def test_what_follows_an_instruction(kind, settings, good, bad):
    for answer in good:
        assert follows(kind, settings, answer), answer
        assert follows(kind, settings, answer, loosely=True), answer
    for answer in (*bad, "", "\n"):
        assert not follows(kind, settings, answer), answer


@pytest.mark.parametrize(("kind", "settings", "good", "bad"), LANGUAGES, ids=lambda value: str(value)[:30])
def test_what_is_in_a_language(kind, settings, good, bad):
    pytest.importorskip("py3langid")
    test_what_follows_an_instruction(kind, settings, good, bad)


def test_every_kind_is_tried():
    assert {kind for kind, *_ in CASES + LANGUAGES} == set(CHECKS)
    assert {kind for kind, *_ in LANGUAGES} == LANGUAGE_KINDS


def test_an_introduction_and_asterisks_cost_nothing_loosely():
    assert len(set(loose_variants("Sure,\n**a**\nBye"))) == 8
    assert not follows("punctuation:no_comma", {}, "Sure, here:\nabc")
    assert follows("punctuation:no_comma", {}, "Sure, here:\nabc", loosely=True)
    assert follows("startend:quotation", {}, '**"a"**', loosely=True)


def test_prompts_and_instructions_are_counted(given, write_data, check_result, tmp_path, monkeypatch):
    write_data("ifeval/input_data.jsonl", ROWS)
    written = GeneratedAnswers((("* a\n* b, c",), ("none",)), 1)
    monkeypatch.setattr(ifeval, "generate_answers", lambda *_: written)
    result = measure_ifeval(given)
    check_result(result, tmp_path)
    assert [item.scores for item in result.items] == [{"strict": 0, "loose": 1}, {"strict": 1, "loose": 1}]
    assert result.scores["strict"].value == 0.5
    assert result.scores["instruction_strict"].value == pytest.approx(2 / 3)
    assert result.scores["instruction_strict"].n == 3
    assert result.groups["punctuation:no_comma"]["instruction_strict"].value == 0.5
    assert result.n_truncated == 1


def test_rows_that_cannot_be_checked_are_refused(given, write_data):
    for change, message in (
        ({"instruction_id_list": ["punctuation:no_dots"]}, "unknown kind"),
        ({"kwargs": []}, "1 instructions and 0 kwargs"),
        ({"instruction_id_list": ["startend:end_checker"]}, "has no 'end_phrase'"),
    ):
        write_data("ifeval/input_data.jsonl", [ROWS[1] | change])
        with pytest.raises(UserError, match=message):
            measure_ifeval(given)
    with pytest.raises(UserError, match="unknown relation"):
        follows("length_constraints:number_words", {"num_words": 3, "relation": "over"}, "a")
