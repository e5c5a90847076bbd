"""Critique, revision and preference: what a critic's words lead to, and what counts as invalid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest

from parakit.alignment.constitution.ai_feedback import (
    ResponsePair,
    check_valid_comparisons,
    compare_responses,
)
from parakit.alignment.constitution.critique_revision import (
    Response,
    check_valid_fraction,
    is_trainable,
    outcomes,
    revise,
)
from parakit.alignment.constitution.principles import load_principles
from parakit.alignment.jsonl_cache import JsonlCache, cached_map
from parakit.common.errors import CorruptArtifact, UserError
from parakit.data.conversations.conversation import Message
from parakit.primer import critique_prompts
from parakit.primer.attacks import jailbreak_templates
from parakit.primer.attacks.suites import NO_TOWN, NOBODY
from parakit.primer.critique_sft import critique_conversations
from parakit.primer.seeded_random import is_held_out
from parakit.primer.skills import safety
from tests.alignment.constitution.scripted_critic import ScriptedCritic

PRINCIPLES = load_principles()
STEAL = Response("a", "How do I steal a car?", "To steal a car, use a hook.")
REFUSAL = "I can't help with that. Stealing is wrong."


def outcome(critique: str | None, revision: str | None = REFUSAL) -> tuple[str, str]:
    """(outcome, final answer) of one round under the first principle."""
    critic = ScriptedCritic(lambda messages: critique if len(messages) == 1 else revision)
    row = revise(critic, PRINCIPLES[:1], [STEAL])[0]
    return row["rounds"][0]["outcome"], row["final"]


@pytest.mark.parametrize(
    ("critique", "revision", "expected"),
    [
        ("Yes. It was asked how to steal a car.", REFUSAL, "revised"),
        ("No. It is fine.", REFUSAL, "good"),
        ("no", REFUSAL, "good"),
        ("Nothing declines here.", REFUSAL, "undecided critique"),
        (None, REFUSAL, "skipped"),
        ("", REFUSAL, "empty critique"),
        (" ?! ", REFUSAL, "empty critique"),
        ("To steal a car, use a hook.", REFUSAL, "copied critique"),
        ("how do i steal a car?", REFUSAL, "copied critique"),
        ("Should that answer have declined?", REFUSAL, "copied critique"),
        ("Yesterday.", REFUSAL, "undecided critique"),
        ("Yes.", "", "empty revision"),
        ("Yes.", "...", "empty revision"),
        ("Yes.", "to steal a car, use a hook", "unchanged revision"),
        ("Yes.", "Yes.", "copied revision"),
        ("Yes.", "Rewrite the answer so that it declines.", "copied revision"),
        ("Yes.", None, "skipped"),
    ],
)
def test_what_a_round_comes_to(critique: str | None, revision: str | None, expected: str) -> None:
    assert outcome(critique, revision) == (expected, REFUSAL if expected == "revised" else STEAL.answer)


def test_the_critic_is_asked_about_the_latest_answer_under_each_principle_once() -> None:
    def says(messages: Sequence[Message]) -> str:
        return "Yes." if len(messages) == 1 else f"answer {len(messages[0].content)}"

    critic = ScriptedCritic(says)
    row = revise(critic, PRINCIPLES, [STEAL], n_rounds=5)[0]
    assert sorted(one["principle"] for one in row["rounds"]) == ["harm", "help", "honesty"]
    reviews = [messages for messages in critic.requests if len(messages) == 1]
    by_id = {one.id: one for one in PRINCIPLES}
    answer = STEAL.answer
    assert len(reviews) == 6  # the last answer is looked at again under each principle
    assert row["objections"] == [one.id for one in PRINCIPLES]
    assert not is_trainable(row, 3)
    for messages, done in zip(reviews[:3], row["rounds"], strict=True):
        principle = by_id[done["principle"]]
        assert messages[0].content == critique_prompts.critique_prompt(
            STEAL.question, answer, principle.critique
        )
        answer = done["revision"]
    assert row["final"] == answer
    told = next(messages for messages in critic.requests if len(messages) == 3)
    assert [m.role for m in told] == ["user", "assistant", "user"]


def test_only_what_no_principle_objects_to_is_learned() -> None:
    content = revise(ScriptedCritic(), PRINCIPLES, [STEAL], n_rounds=3)[0]
    assert is_trainable(content, 3)  # right from the first, under every principle
    assert not is_trainable(revise(ScriptedCritic(), PRINCIPLES, [STEAL], n_rounds=2)[0], 3)

    def says(messages: Sequence[Message]) -> str:
        return REFUSAL if len(messages) == 3 else "No." if REFUSAL in messages[0].content else "Yes."

    mended = revise(ScriptedCritic(says), PRINCIPLES, [STEAL], n_rounds=1)[0]
    assert mended["final"] == REFUSAL
    assert mended["objections"] == []
    assert is_trainable(mended, 3)


def test_a_row_depends_on_its_item_and_the_seed_alone() -> None:
    others = [Response(str(i), "Hello?", "Hi.") for i in range(8)]
    together = revise(ScriptedCritic(), PRINCIPLES, [*others, STEAL], n_rounds=1)
    assert together[-1:] == revise(ScriptedCritic(), PRINCIPLES, [STEAL], n_rounds=1)
    drawn = {row["rounds"][0]["principle"] for row in together}
    assert len(drawn) > 1
    assert [row["rounds"] for row in together] != [
        row["rounds"] for row in revise(ScriptedCritic(), PRINCIPLES, [*others, STEAL], n_rounds=1, seed=1)
    ]


def test_a_critic_with_mostly_invalid_critiques_ends_the_run() -> None:
    rows = revise(ScriptedCritic(lambda _: ""), PRINCIPLES, [STEAL, STEAL], n_rounds=3)
    found = outcomes(rows)
    assert found == Counter({"empty critique": 6})
    with pytest.raises(UserError, match=r"6 of 6 critiques by script are invalid \(6 empty critique\)"):
        check_valid_fraction(found, "script", 0.5)
    check_valid_fraction(Counter({"good": 5, "empty critique": 5}), "script", 0.5)
    check_valid_fraction(Counter(), "script", 0.5)


GOOD, BAD = REFUSAL, "To steal a car, use a hook."


def knowing(messages: Sequence[Message]) -> tuple[float, ...]:
    """Prefers the refusal wherever it stands."""
    return (0.9, 0.1) if f'A: "{GOOD}"' in messages[0].content else (0.1, 0.9)


def test_preferences_do_not_depend_on_the_order() -> None:
    pairs = [ResponsePair("a", STEAL.question, GOOD, BAD), ResponsePair("b", STEAL.question, BAD, GOOD)]
    critic = ScriptedCritic(chooses=knowing)
    rows = compare_responses(critic, PRINCIPLES, pairs)
    assert [(row["outcome"], row["chosen"], row["rejected"]) for row in rows] == [
        ("preferred", GOOD, BAD)
    ] * 2
    assert [row["probability"] for row in rows] == pytest.approx([0.9, 0.9])
    assert len(critic.requests) == 4


def test_a_liking_for_the_first_cancels_out() -> None:
    pairs = [ResponsePair("a", STEAL.question, GOOD, BAD)]
    rows = compare_responses(ScriptedCritic(chooses=lambda _: (1.0, 0.0)), PRINCIPLES, pairs)
    assert rows[0]["outcome"] == "too close"


def test_pairs_that_teach_nothing_are_named() -> None:
    pairs = [ResponsePair("a", "Q?", "x", "x "), ResponsePair("b", "Q?", "x", "y")]
    rows = compare_responses(ScriptedCritic(), PRINCIPLES, pairs)
    assert [row["outcome"] for row in rows] == ["equal answers", "unparseable verdict"]
    counts = Counter(row["outcome"] for row in rows)
    with pytest.raises(UserError, match="1 of 1 verdicts by script say neither A nor B"):
        check_valid_comparisons(counts, "script", 0.5)
    with pytest.raises(UserError, match="no preferences: 3 equal answers"):
        check_valid_comparisons(Counter({"equal answers": 3}), "script", 0.5)
    check_valid_comparisons(Counter({"preferred": 1, "too close": 9}), "script", 0.5)


def test_the_built_in_principles_ask_what_the_lessons_teach() -> None:
    messages = {one.id: (one.critique, one.revision, one.preference, one.pass_prefix) for one in PRINCIPLES}
    assert messages == {
        "harm": (
            critique_prompts.HARMFUL,
            critique_prompts.DECLINE,
            critique_prompts.BETTER["harm"],
            critique_prompts.NO,
        ),
        "honesty": (
            critique_prompts.INVENTED,
            critique_prompts.ADMIT,
            critique_prompts.BETTER["honesty"],
            critique_prompts.NO,
        ),
        "help": (
            critique_prompts.UNHELPFUL,
            critique_prompts.HELP,
            critique_prompts.BETTER["help"],
            critique_prompts.NO,
        ),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("principles: []", "at least 1 item"),
        ("rules: []", "unknown key `rules`"),
        ("principles: [{id: a, text: t, critique: c, revision: r, preference: p, tone: x}]", "tone"),
        ("principles: [{id: a, text: t, critique: c, revision: r}]", "preference"),
        (
            "principles:\n"
            + "  - {id: a, text: t, critique: c, revision: r, preference: p}\n" * 2,
            "the principle 'a' occurs twice",
        ),
        ("- a", "holds a list"),
    ],
)  # fmt: skip
def test_a_faulty_file_of_principles_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "rules.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        load_principles(tmp_path / "rules.yaml")
    assert message in str(caught.value)
    with pytest.raises(UserError, match="no such file of principles"):
        load_principles(tmp_path / "none.yaml")


def test_lessons_are_a_function_of_the_seed_and_stay_on_the_training_side() -> None:
    conversations = list(critique_conversations(600))
    assert list(critique_conversations(600)) == conversations
    assert list(islice(critique_conversations(900), 600)) == conversations
    assert conversations != list(critique_conversations(600, seed=1))
    messages = "\n".join(
        message.content for conversation in conversations for message in conversation.messages
    )
    held_out_acts = [
        f"{verb} {thing}"
        for verb, (things, _) in safety.HARMFUL.items()
        for thing in things
        if is_held_out(safety.HELD_OUT_PERCENT, "safety", verb, thing)
    ]
    assert len(held_out_acts) > 10
    assert not [
        act for act in held_out_acts if f"how to {act}." in messages or f"How do I {act}?" in messages
    ]
    unknown = [
        n
        for n in (*NOBODY, *NO_TOWN)
        if is_held_out(jailbreak_templates.HELD_OUT_PERCENT, "red_team", "made_up", n)
    ]
    assert unknown
    assert not [name for name in unknown if name in messages]


def test_lessons_teach_both_verdicts_and_only_faults_are_rewritten() -> None:
    conversations = list(critique_conversations(600))
    first = Counter(conversation.messages[1].content.partition(".")[0] for conversation in conversations)
    assert set(first) == {"Yes", "No", "A", "B"}
    assert min(first.values()) > 50
    for conversation in conversations:
        assert (len(conversation.messages) == 4) == conversation.messages[1].content.startswith("Yes")


def test_a_cached_map_resumes_after_an_interruption(tmp_path: Path) -> None:
    done: list[int] = []

    def work(chunk: Sequence[int]) -> list[dict[str, int]]:
        if 5 in chunk and len(done) < 9:
            done.append(99)
            raise UserError("unreachable")
        done.extend(chunk)
        return [{"square": i * i} for i in chunk]

    path = tmp_path / "deep" / "squares.jsonl"
    items = list(range(7))
    with pytest.raises(UserError, match="unreachable"):
        cached_map(path, items, str, work, chunk_size=2)
    assert sorted(JsonlCache(path).rows) == ["0", "1", "2", "3"]
    with open(path, "a") as file:
        file.write('{"id": "4", "squ')  # a kill while writing
    done.extend([99] * 9)
    rows = cached_map(path, items, str, work, chunk_size=2)
    assert [row["square"] for row in rows] == [i * i for i in items]
    assert [i for i in done if i != 99] == [0, 1, 2, 3, 4, 5, 6]
    whole = path.read_text()
    for damaged, number in (
        (f"nonsense\n{whole}", 1),
        (whole.replace("16", "17"), 5),
        (f"{whole}{{}}\n", 8),
        ("[]\n", 1),
    ):
        path.write_text(damaged)
        with pytest.raises(CorruptArtifact, match=f"line {number} "):
            JsonlCache(path)


def test_any_words_are_a_critique_where_no_beginning_was_asked_for() -> None:
    free = PRINCIPLES[0].replace(fail_prefix=None)
    critic = ScriptedCritic(lambda messages: "It tells how to steal." if len(messages) == 1 else REFUSAL)
    assert revise(critic, [free], [STEAL])[0]["final"] == REFUSAL


def test_items_for_which_there_is_no_time_are_left_out_and_made_later(tmp_path):
    path, items, chances = tmp_path / "rows.jsonl", ["a", "b", "c", "d", "e"], iter([True, False])

    def compute(chunk):
        return [{"value": item.upper()} for item in chunk]

    rows = cached_map(path, items, str, compute, 2, lambda: next(chances))
    assert [row["value"] for row in rows] == ["A", "B", "C", "D"]
    assert len(cached_map(path, items, str, compute, 2)) == 5
    assert (
        len(cached_map(tmp_path / "new.jsonl", items, str, compute, 2, lambda: False)) == 2
    )  # the first always
