"""Each step by itself: what it takes away, and what holds for all of them whatever the text."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from parakit.common.errors import UserError
from parakit.data.cleaning.config import STEPS, parse_step
from parakit.data.cleaning.language import LanguageConfig, _langid
from parakit.data.cleaning.linear_classifier import LinearClassifier, train
from parakit.data.cleaning.repeated_lines import RepeatedLinesConfig, _HashCounts
from parakit.data.cleaning.steps import Removed
from tests.data.cleaning.languages import SENTENCES, texts

GOOD = [f"The committee reviewed the annual report of year {n} and approved its findings." for n in range(40)]
BAD = [f"CLICK here to win $$$ {n} now!!! free free bonus casino" for n in range(40)]


def build(step: str, folder: Path = Path("unused")) -> Any:
    return parse_step(step).build(folder)


@cache
def every_step() -> dict[str, Any]:
    """Steps on one text, by their names."""
    pytest.importorskip("py3langid")
    classifier = train(GOOD, BAD)
    names = (
        "repair_text:quotes=true:ligatures=true:width=true:line_breaks=true:normalization=NFKC:html_entities=true",
        "repair_text",
        "language:keep=en,de:min_chars=1",
        "quality:rules=gopher,gopher_repetition,c4,fineweb",
        "personal_data",
        "personal_data:kinds=name,email,phone",
    )
    made = {name: build(name) for name in names}
    made["classifier"] = lambda text: text if classifier.probability(text) > 0.5 else Removed("low quality")
    return made


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.text(st.characters(codec=None), max_size=300),
        st.text("ab.,:@+-0123456789 \n'’Ã©“”#AZ\x85\x1b[]&;{}", max_size=300),
    )
)
@example("Anna Smith wrote to Anna.Smith@example.com, tel. +49 30 1234567, 4111 1111 1111 1111.")
@example("&amp;amp;lt; ﬁ ｆｕｌｌ ‘quoted’ schÃ¶n")
def test_no_step_fails_grows_a_text_without_bound_or_changes_it_twice(text: str) -> None:
    for name, step in every_step().items():
        once = step(text)
        if isinstance(once, Removed):
            continue
        assert len(once) <= 20 * len(text) + 20, name
        twice = step(once)
        if not isinstance(twice, Removed):  # what C4 leaves of a document may be too short for C4
            assert twice == once, name


def test_repair_restores_what_was_decoded_wrongly_and_nothing_else() -> None:
    pytest.importorskip("ftfy")
    step = build("repair_text")
    assert step("schÃ¶n â€“ und\x00 so\x07\nzweite Zeile") == "schön – und so\nzweite Zeile"
    for text in ("“curly” ‘quotes’ – ﬁ ½ Å Ａ", "&amp; <b>", "tab\tand\r\nline", "日本語 שלום\u200f \u200d"):
        assert step(text) == text
    assert build("repair_text:quotes=true")("“a”") == '"a"'
    assert not parse_step("repair_text").applies_to("src/main.py")
    assert parse_step("repair_text").applies_to("notes.md")


def test_lines_of_many_documents_and_of_one_document_again_and_again_go(tmp_path: Path) -> None:
    bodies = [f"This is the text of document {'abcdefghijklmnopqrst'[n]} alone." for n in range(20)]
    documents = [f"Home | News | About us\n\n{body}\n\nPrinted on page {n}" for n, body in enumerate(bodies)]
    documents.append("The running head\nFirst\n" * 6 + "last words")
    step = RepeatedLinesConfig(min_share=0.5).build(tmp_path)
    for index, text in enumerate(documents):
        step.add(index, text)
    step.finish()
    cleaned = [step.apply(index, text) for index, text in enumerate(documents)]
    assert cleaned[:20] == bodies  # without the blank lines around them, which quality rules count
    assert cleaned[20] == "The running head\n" + "First\n" * 6 + "last words"
    assert step.apply(0, "Home | News | About us") == Removed("only repeated lines")
    assert step.figures()["boilerplate_lines"] == 2


def test_counts_of_lines_are_the_same_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = [{n * 2**55 for n in range(1, 400, 1 + k)} | {7, 2**64 - 1} for k in range(9)]
    found = []
    for name, buffered in (("memory", 2**20), ("files", 50)):
        monkeypatch.setattr("parakit.data.cleaning.repeated_lines.BUFFERED", buffered)
        (tmp_path / name).mkdir()
        counts = _HashCounts(tmp_path / name)
        for one in sets:
            counts.add(one)
        found.append(sorted(counts.at_least(3).tolist()))
        assert not list((tmp_path / name).iterdir())
    expected = sorted(h for h in set().union(*sets) if sum(h in one for one in sets) >= 3)
    assert found == [expected, expected]


def test_twenty_languages_are_recognized() -> None:
    pytest.importorskip("py3langid")
    assert len(SENTENCES) == 20
    detect = _langid(LanguageConfig())
    right = [detect(text) == language for language in SENTENCES for text in texts(language)]
    assert sum(right) / len(right) >= 0.97


def test_without_a_named_language_that_of_most_text_stays() -> None:
    pytest.importorskip("py3langid")
    step = build("language")
    documents = [*texts("de"), *texts("en")[:2], "zu kurz"]
    for index, text in enumerate(documents):
        step.add(index + (index >= 3), text)  # a document in between is excluded
    step.finish()
    results = [step.apply(index + (index >= 3), text) for index, text in enumerate(documents)]
    assert results == [*texts("de"), Removed("language en"), Removed("language en"), "zu kurz"]
    assert step.figures() == {"kept_language": "de", "documents": {"de": 5, "en": 2, "unsure": 1}}
    with pytest.raises(UserError, match="does not know xx"):
        build("language:keep=xx")
    with pytest.raises(UserError, match="`among` has not"):
        parse_step("language:keep=en,de:among=en")
    with pytest.raises(UserError, match="no such file"):
        build("language:model=missing.bin")


PROSE = (
    "The harbour of the old town was built by the monks, and for a hundred years ships have landed there with wool."
    " It is said that the first lighthouse burned down in a storm. Nobody knows who lit the fire that night."
    " A new one of stone was raised on the same rock. To this day its lamp can be seen from far away."
    " Fishermen steer by it when the fog rolls in."
)
FAULTS = {
    "gopher.min_words": "Too short to be of any use to the reader, with only a few words.",
    "gopher.max_mean_word_length": " ".join(["incomprehensibility the of"] + ["counterrevolutionaries"] * 60),
    "gopher.max_hashes_per_word": PROSE.replace(" the", " ### the").replace(" a ", " ### a "),
    "gopher.max_bullet_lines": "\n".join(f"- {s}" for s in PROSE.split(". ")),
    "gopher.max_ellipsis_lines": "\n".join(f"{s}..." for s in PROSE.split(". ")),
    "gopher.min_words_with_letters": PROSE + " 12" * 60,
    "gopher.min_stop_words": " ".join(
        w for w in PROSE.split() if w.lower() not in "the be to of and that have with"
    ),
    "gopher_repetition.repeated_lines": (PROSE + "\n") * 3,
    "gopher_repetition.top_2_gram": PROSE + " rope ladder" * 14,
    "gopher_repetition.repeated_5_grams": PROSE[:300] + " " + PROSE[60:200],
    "c4.lorem_ipsum": PROSE + "\nAnd then lorem ipsum dolor sit amet.",
    "c4.curly_bracket": PROSE + "\nif (x) { return the value to me.",
    "c4.min_sentences": "One sentence is all there is to read on this page.",
    "fineweb.min_lines_ending_in_punctuation": PROSE.replace(".", " and\n"),
    "fineweb.max_short_lines": PROSE.replace(" ", ".\n"),
    "fineweb.max_line_ends_per_word": "\n\n\n".join(f"{w} of the {w}." for w in PROSE.split()),
}


@pytest.mark.parametrize("rule", FAULTS)
def test_a_rule_leaves_out_what_it_names_unless_it_is_disabled(rule: str) -> None:
    name = rule.partition(".")[0]
    assert build(f"quality:rules={name}")(PROSE) == PROSE
    found = build(f"quality:rules={name}")(FAULTS[rule])
    others = []
    while isinstance(found, Removed) and found.reason != rule:  # some texts break two rules
        others.append(found.reason)
        found = build(f"quality:rules={name}:disabled={','.join(others)}")(FAULTS[rule])
    assert found == Removed(rule)
    found = build(f"quality:rules={name}:disabled={','.join([*others, rule])}")(FAULTS[rule])
    assert not isinstance(found, Removed) or found.reason != rule


def test_c4_removes_lines_and_thresholds_can_be_set() -> None:
    step = build("quality:rules=c4")
    assert step(PROSE.replace(". ", ".[3] ") + "\nLog in\nPlease enable javascript in your browser.") == PROSE
    config = parse_step({"step": "quality", "rules": ["gopher"], "thresholds": {"gopher.min_words": 500}})
    assert STEPS["quality"].parse(config).build(Path())(PROSE) == Removed("gopher.min_words")
    with pytest.raises(UserError, match="no quality rule"):
        parse_step("quality:disabled=gopher.min_word")
    with pytest.raises(UserError, match="has no effect"):
        parse_step("quality:rules=gopher:disabled=c4.policy")


def test_a_classifier_learns_the_users_examples_and_is_saved(tmp_path: Path) -> None:
    (tmp_path / "good.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in GOOD))
    (tmp_path / "bad").mkdir()
    for n, text in enumerate(BAD):
        (tmp_path / "bad" / f"{n}.txt").write_text(text)
    given = {
        "step": "quality_classifier",
        "good": [str(tmp_path / "good.jsonl")],
        "bad": [str(tmp_path / "bad")],
    }
    step = STEPS["quality_classifier"].parse(given | {"save_to": str(tmp_path / "model")}).build(tmp_path)
    assert step.figures()["held_out_balanced_accuracy"] == 1.0
    judged = ["The annual report of the committee was approved.", "free casino bonus, CLICK now!!!"]
    assert [isinstance(step(text), Removed) for text in judged] == [False, True]
    loaded = build(f"quality_classifier:model={tmp_path / 'model'}")
    assert [loaded(text) for text in judged] == [step(text) for text in judged]
    assert train(GOOD[::-1], BAD[::-1]).digest() == LinearClassifier.load(tmp_path / "model").digest()
    values = json.loads((tmp_path / "model" / "classifier.json").read_text())
    (tmp_path / "model" / "classifier.json").write_text(json.dumps(values | {"bias": 1.0}))
    with pytest.raises(UserError, match="digest"):
        build(f"quality_classifier:model={tmp_path / 'model'}")
    with pytest.raises(UserError, match="either examples of both kinds"):
        parse_step("quality_classifier")


def test_words_of_a_list_leave_documents_out(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("# mine\nDarn\nblast it # a phrase\n糞\n", encoding="utf-8")
    step = build(f"word_lists:files={tmp_path / 'words.txt'}")
    for text in ("Darn!", "oh DARN you", "Blast\nit all", "この糞め"):
        assert step(text) == Removed("words of a list")
    for text in ("darning socks", "a blast", "it", ""):
        assert step(text) == text
    assert (
        build(f"word_lists:files={tmp_path / 'words.txt'}:max_share=0.4")("well darn it so")
        == "well darn it so"
    )
    with pytest.raises(UserError, match="names no files"):
        parse_step("word_lists")
    with pytest.raises(UserError, match="cannot be read"):
        build(f"word_lists:files={tmp_path / 'none.txt'}")
