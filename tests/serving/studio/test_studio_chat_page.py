"""The pages of chat, arena and models as a person uses them; a vote becomes a step of DPO."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from parakit.cli.main import main
from parakit.data.conversations.conversation import read_conversations


def ready(page) -> None:
    page.wait_for_selector(".studio-content[aria-busy=false]")


def answered(page, n: int) -> None:
    page.wait_for_function("n => document.querySelectorAll('.chat-assistant').length === n", arg=n)
    page.locator("[aria-label=Send]").wait_for(state="visible")


def chat_with(visit, model: str, width: int = 1280, scheme: str = "light"):
    page = visit(f"/chat?model={model}", width, scheme)
    ready(page)
    box = page.get_by_role("textbox", name="Message", exact=True)
    box.fill("What is your name?")
    box.press("Enter")
    answered(page, 1)
    return page


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_a_chat_shows_probabilities_branches_and_goes_on_from_a_token(visit, studio_folder, width, scheme):
    page = chat_with(visit, "builds/primer/finetune", width, scheme)
    tokens = page.locator(".chat-assistant .token")
    tokens.nth(1).hover()
    page.locator(".token-card").wait_for()
    assert "%" in page.locator(".token-card-title").inner_text()
    assert page.locator(".token-choice").count() == 8
    chosen = page.locator(".token-choice-text").nth(1).inner_text()
    page.locator(".token-choice").nth(1).click()
    page.get_by_text("2 of 2").wait_for()
    answered(page, 1)
    assert tokens.nth(1).inner_text().replace("\n", "") == chosen.replace("·", " ").replace("⏎", "")
    page.get_by_role("button", name="Version before").click()
    page.get_by_text("1 of 2").wait_for()
    page.locator(".chat-chart canvas").wait_for()
    assert page.locator("[role=meter]").get_attribute("aria-valuemax") == "192"
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_conversation_is_saved_edited_and_exported_as_tuning_data(visit, studio_folder):
    page = chat_with(visit, "builds/primer/finetune")
    page.get_by_role("button", name="Edit").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox").fill("Who are you?")
    dialog.get_by_role("button", name="Save and answer").click()
    page.get_by_text("2 of 2").wait_for()
    answered(page, 1)
    page.get_by_text("View and files").click()
    page.get_by_role("button", name="Export as tuning data").click()
    page.get_by_text("--conversations").wait_for()
    exported = sorted((studio_folder / "studio" / "exports").glob("*.jsonl"))[-1]
    questions = [one.messages[0].content for one in read_conversations(exported)]
    assert "Who are you?" in questions


def test_stop_keeps_what_was_written(visit):
    page = visit("/chat?model=builds/primer/pretrain")
    ready(page)
    page.get_by_role("spinbutton", name="Most tokens").fill("150")
    box = page.get_by_role("textbox", name="Message", exact=True)
    box.fill("One morning")
    box.press("Enter")
    page.locator("[aria-label=Stop]").wait_for(state="visible")
    box.press("Escape")
    page.locator("[aria-label=Send]").wait_for(state="visible")


def vote(page, prompt: str) -> None:
    page.get_by_role("textbox", name="Prompt").fill(prompt)
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("button", name="A is better").wait_for()  # those of the pair before are gone
    assert "finetune" not in page.locator("[aria-live=polite]").first.inner_text()  # blind
    page.get_by_role("button", name="A is better").click()
    page.get_by_text("Counted. A is").wait_for()


def test_votes_become_a_step_of_dpo_by_one_command(visit, studio_folder, tmp_path):
    page = visit("/arena")
    ready(page)
    page.get_by_text("Sampling").click()
    # The other model of a pair may write more than the learner's window holds.
    page.get_by_role("spinbutton", name="Most tokens").fill("40")
    prompts = [f"What is {n} + {n}?" for n in range(3, 8)]
    for prompt in prompts:
        vote(page, prompt)
    rows = [
        json.loads(line)
        for line in (studio_folder / "studio/votes/preferences.jsonl").read_text().rstrip("\n").split("\n")
    ]
    assert [row["prompt"][0]["content"] for row in rows][-5:] == prompts
    assert page.get_by_text("Bradley–Terry").count() == 1
    model = str(studio_folder / "builds" / "primer" / "finetune")
    command = [
        "align",
        model,
        "--method",
        "dpo",
        "--preferences",
        str(studio_folder / "studio/votes/preferences.jsonl"),
    ]
    assert (
        main([*command, "--output", str(tmp_path / "dpo"), "--max-steps", "1", "--batch-examples", "1"]) == 0
    )
    assert (tmp_path / "dpo" / "model.safetensors").is_file()


def test_two_tabs_on_one_vote_are_counted_once(visit, studio_folder):
    page = visit("/arena")
    ready(page)
    page.get_by_role("textbox", name="Prompt").fill("What is your name?")
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("heading", name="Answer B").wait_for()
    page.wait_for_url("**/arena?pair=*")
    other = visit("/arena?" + page.url.partition("?")[2])
    ready(other)
    assert other.locator("article").all_inner_texts() == page.locator("article").all_inner_texts()
    page.get_by_role("button", name="Tie").click()
    page.get_by_text("Counted.").wait_for()
    other.get_by_role("button", name="A is better").click()
    other.get_by_text("has voted on this pair already").wait_for()


def test_a_model_goes_to_the_trash_and_comes_back(visit, studio_folder):
    page = visit("/models")
    ready(page)
    name = "builds/primer/pretrain"
    page.get_by_role("button", name=f"Delete {name}").click()
    page.get_by_role("button", name="Move to the trash").click()
    page.get_by_text("Trash: 1").click()
    assert not (studio_folder / name).exists()
    page.get_by_role("button", name=f"Put back {name}").click()
    page.get_by_role("button", name=f"Delete {name}").wait_for()
    assert (studio_folder / name / "model.safetensors").is_file()


def test_details_show_the_lineage_and_the_plan_of_memory(visit):
    page = visit("/models", 400, "dark")
    ready(page)
    page.get_by_role("button", name="Details of builds/primer/finetune").click()
    page.locator(".lineage rect").first.wait_for()
    stages = page.locator(".lineage-stage").all_text_contents()
    assert {"Corpus", "Tokenizer", "Pretrain", "Finetune"} <= {stage.capitalize() for stage in stages}
    page.get_by_text("it fits").wait_for()


def test_a_report_is_served_as_a_sandbox_and_nothing_else_is(studio_url, studio_folder):
    address = f"{studio_url}/studio-reports/report.html?folder=builds/primer"
    with urllib.request.urlopen(address) as answer:
        assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
        assert answer.read() == (studio_folder / "builds/primer/report.html").read_bytes()
    for bad in ("summary.json?folder=builds/primer", "report.html?folder=../..", "report.html?folder=/etc"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{studio_url}/studio-reports/{bad}")
        assert refused.value.code == 404
        refused.value.close()


def test_a_model_is_imported_below_the_folder(visit, studio_folder):
    page = visit("/models")
    ready(page)
    page.get_by_role("button", name="Import a model").click()
    source = next(path for path in (studio_folder / "models").iterdir() if path.is_dir())
    page.get_by_role("textbox", name="Model folder").fill(str(source))
    page.get_by_role("textbox", name="Name below").fill("models/copied")
    page.get_by_role("button", name="Plan memory").click()
    page.get_by_text("are free").wait_for()
    page.get_by_role("dialog").get_by_role("button", name="Import", exact=True).click()
    page.get_by_text("ended with status 0").wait_for(timeout=120_000)
    assert (Path(studio_folder) / "models" / "copied" / "lineage.json").is_file()


def test_an_endpoint_answers_without_probabilities(visit, studio_url):
    page = visit("/chat")
    ready(page)
    page.get_by_role("combobox", name="Model").click()
    page.get_by_role("option", name="another endpoint").click()
    page.get_by_role("textbox", name="Address").fill(f"{studio_url}/v1")
    page.get_by_role("textbox", name="Model; empty").fill("builds/primer/finetune")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_text("builds/primer/finetune (endpoint)").wait_for()
    box = page.get_by_role("textbox", name="Message", exact=True)
    box.fill("What is your name?")
    box.press("Enter")
    answered(page, 1)
    assert page.locator(".chat-assistant .token").count() == 0
    assert page.locator(".chat-assistant .chat-head").inner_text().startswith("builds/primer/finetune")
