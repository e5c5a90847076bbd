"""Text of users, models and files is shown as text: nothing of it becomes markup, a script or a request.

Every page is filled with hostile strings in each place where it shows text. `visit` fails for a message on the console, which
is what the security policy would leave of a script that it had blocked: here there is nothing to block.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from parakit.data.conversations.conversation import Message
from parakit.serving.studio.arena.votes import BlindPair, VoteStore
from parakit.serving.studio.chatting.conversation_store import ConversationStore
from parakit.serving.studio.chatting.conversation_tree import AnswerToken, ConversationTree
from tests.serving.studio.hostile_strings import hostile_strings


def check_nothing_ran(page) -> None:
    page.wait_for_timeout(300)
    assert page.evaluate("window.__ran") is None
    handlers = page.evaluate(
        """() => [...document.querySelectorAll('*')].flatMap(e => [...e.attributes])
            .filter(a => /^on|^srcdoc$/.test(a.name) || /^javascript:/.test(a.value)).map(a => a.name + '=' + a.value)"""
    )
    assert handlers == []
    assert page.locator("#bait, main script, main iframe, main svg script").count() == 0


def ready(page) -> None:
    page.wait_for_selector(".studio-content[aria-busy=false]")


def conversation(texts: list[str]) -> ConversationTree:
    tree = ConversationTree(system="\n".join(texts))
    tree.add("user", "\n".join(texts))
    turn = tree.add("assistant", "\n".join(texts))
    turn.tokens = [AnswerToken(i, text, -0.7, ((i, text, -0.7),)) for i, text in enumerate(texts[:200])]
    turn.figures = {"model": texts[0], "n_prompt_tokens": 3, "finish_reason": texts[1]}
    tree.add("user", texts[2])
    tree.add("assistant", "\n".join(texts)).figures = {"model": "\n".join(texts)}
    return tree


def check_chat(visit, folder: Path, texts: list[str]) -> None:
    store = ConversationStore(folder / "studio")
    tree = conversation(texts)
    store.save(tree)
    try:
        page = visit("/chat")
        ready(page)
        page.get_by_text("View and files").click()
        page.locator(".chat-list .chat-entry").first.click()
        page.locator(".chat-assistant .token").nth(3).hover()
        page.locator(".token-card").wait_for()
        page.get_by_role("button", name="Edit").first.click()
        page.get_by_role("heading", name="Edit the message").wait_for()
        check_nothing_ran(page)
        assert page.locator(".chat-user .studio-text").first.inner_text().startswith(texts[0])
    finally:
        store.delete(tree.id)


def check_arena(visit, folder: Path, texts: list[str]) -> None:
    store = VoteStore(folder / "studio")
    pair = BlindPair((Message("user", "\n".join(texts)),), (texts[0], texts[1]), ("\n".join(texts), texts[2]))
    store.add_pair(pair)
    try:
        page = visit(f"/arena?pair={pair.id}")
        ready(page)
        page.get_by_role("textbox", name="Your name").fill(texts[1][:60])
        check_nothing_ran(page)
        page.get_by_role("button", name="Both bad").click()
        page.get_by_text("Counted.").wait_for()
        check_nothing_ran(page)
    finally:
        shutil.rmtree(store.folder)


def check_tokens(visit, batches: list[list[str]]) -> None:
    """All batches in one page: opening one costs the browser a second of computing."""
    page = visit("/tokens")
    ready(page)
    for number, texts in enumerate(batches):
        text = "\n".join([f"batch {number}", *texts])[:4000]
        page.get_by_role("textbox", name="Text", exact=True).fill(text)
        page.wait_for_function(
            "n => document.querySelector('.token-text').textContent.includes(`batch ${n}⏎`)",
            arg=number,
            polling=100,
        )
        page.locator(".token").nth(5).hover()
        page.locator(".token-card").wait_for()
        check_nothing_ran(page)


def check_models(visit, folder: Path, texts: list[str]) -> None:
    """Names of folders are text, too, and so is all that a lineage has."""
    made = []
    for number, text in enumerate(texts):
        place = folder / (text.replace("/", "∕")[:80].strip() or "x")
        if place.exists():  # two strings that begin alike
            continue
        place.mkdir()
        lineage = {
            **{"kind": text if number % 2 else "model", "digest": text, "config": {}, "result": {}},
            **{"seconds": 1.0, "created": text, "version": text, "seed": 0},
            "parents": [{"kind": text, "digest": text, "path": text.replace("\u0000", "")}],
        }
        (place / "lineage.json").write_text(json.dumps(lineage))
        made.append((number, place))
    try:
        page = visit("/models")
        ready(page)
        check_nothing_ran(page)
        name = next(place.name for number, place in made if not number % 2)
        page.get_by_role("button", name=f"Details of {name}", exact=True).click()
        page.get_by_role("heading", name="From the text to this model").wait_for()
        check_nothing_ran(page)
    finally:
        for _, place in made:
            shutil.rmtree(place)


def test_thirty_hostile_strings_stay_text_in_every_place(visit, studio_folder):
    texts = hostile_strings(30)
    check_chat(visit, studio_folder, texts)
    check_arena(visit, studio_folder, texts)
    check_tokens(visit, [texts])
    check_models(visit, studio_folder, texts)


@pytest.mark.long
def test_five_thousand_hostile_strings_stay_text_in_every_place(visit, studio_folder):
    texts = hostile_strings(5000)
    assert len(set(texts)) == 5000
    check_chat(visit, studio_folder, texts)
    check_arena(visit, studio_folder, texts)
    check_tokens(visit, [texts[start : start + 500] for start in range(0, 5000, 500)])
    check_models(
        visit, studio_folder, [texts[start + i] for start in range(0, 5000, 1000) for i in range(40)]
    )
