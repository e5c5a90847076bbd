"""Sampled replies: one set of them for every way to choose, a curve against tokens, verifiers and their errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from parakit.assistants.prompts.items import PromptItem
from parakit.assistants.prompts.prompt import PromptTemplate
from parakit.checkpoints.model_folder import save_model
from parakit.common.artifacts import Lineage
from parakit.common.errors import UserError
from parakit.data.conversations.messages import Message
from parakit.model import DecoderConfig
from parakit.model.heads import RewardModel
from parakit.stages.prompts.config import PromptRunConfig, SampleConfig
from parakit.stages.prompts.running import PromptJob
from parakit.stages.prompts.sampling import measure_samples, sizes
from parakit.stages.prompts.verifiers import WORST, verify
from parakit.tokens.chat.template import compile_chat
from tests.alignment.tiny_chat_model import tiny_chat_model

PLAIN = PromptTemplate(name="plain", template="{{ q }}")


class Noisy:
    """A chat model that is right in two of three replies, with another wrong answer each time."""

    name = "noisy"

    def __init__(self) -> None:
        self.n_written = 0

    def generate(self, conversations, *, max_new_tokens, temperature=0.0, seeds=None, on_progress=None):
        texts = []
        for one in conversations:
            self.n_written += 1
            number = one[-1].content.split()[0]
            texts.append(f"It is {number}." if self.n_written % 3 else f"Or {100 + self.n_written}.")
        return texts


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps({"q": f"{i} birds", "answer": str(i)}) + "\n" for i in range(6)))
    return str(path)


def measure(table: str, model: Noisy, out: Path | None = None, **settings: object):
    config = SampleConfig.parse({"metric": "number", "n_samples": 6, **settings})
    return measure_samples(PromptJob("noisy", (PLAIN,), table, PromptRunConfig(), opened=model), config, out)


def test_votes_and_coverage_rise_with_the_replies(table, tmp_path):
    model = Noisy()
    results = measure(table, model, tmp_path / "out")
    assert model.n_written == 36  # once for all curves
    votes, covered = results["curves"]["votes"], results["curves"]["coverage"]
    assert [point["n"] for point in votes] == sizes(6) == [1, 2, 4, 6]
    assert votes[0]["value"] == covered[0]["value"] == pytest.approx(2 / 3)
    assert votes[-1]["value"] == covered[-1]["value"] == 1.0
    assert [point["tokens"] for point in votes] == sorted(point["tokens"] for point in votes)
    per_reply = votes[-1]["tokens"] - votes[0]["tokens"]
    assert votes[1]["tokens"] - votes[0]["tokens"] == pytest.approx(per_reply / 5)
    assert results["errors"]["votes"]["ranked"] == 1.0
    rows = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").read_text().splitlines()]
    assert [row["scores"] for row in rows] == [[1, 1, 0, 1, 1, 0]] * 6
    assert "<svg" in (tmp_path / "out" / "report.html").read_text()
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results


def test_a_checker_verifies_without_the_right_answer(table, tmp_path, isolation):
    checker = tmp_path / "check.py"
    checker.write_text(
        "def check(answer, item):\n    assert not item['answers']\n    return answer[0] == 'O'\n"
    )
    results = measure(table, Noisy(), verifiers=[str(checker)])
    points = results["curves"][str(checker)]  # it prefers the wrong ones
    assert points[-1]["value"] == 0.0
    assert results["errors"][str(checker)] == {"ranked": 0.0, "missed": 1.0, "n_pairs": 48, "n_items": 6}


def test_a_verifier_sees_no_column_that_the_prompt_does_not_read(tmp_path, isolation):
    checker, table = tmp_path / "check.py", tmp_path / "items.jsonl"
    checker.write_text(
        "def check(answer, item):\n    assert set(item) == {'q', 'answer', 'answers'}\n    return 1\n"
    )
    table.write_text('{"q": "1 bird", "answer": "1", "accept": ["one"]}\n')
    assert measure(str(table), Noisy(), verifiers=[str(checker)])["n_items"] == 1


def test_a_reward_model_scores_each_reply(tmp_path):
    _, tokenizer = tiny_chat_model()
    torch.manual_seed(0)
    model = RewardModel(
        DecoderConfig(
            vocab_size=tokenizer.vocab_size, d_model=16, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=8, d_ff=16,
            max_seq_len=64,
        )
    ).eval()  # fmt: skip
    with torch.no_grad():
        model.reward_head.weight.normal_()
    save_model(model, tokenizer, tmp_path / "reward", Lineage("model", {}))
    items = [PromptItem("1", {"q": "How?"}), PromptItem("2", {"q": "Why?"}), PromptItem("3", {"q": "No?"})]
    replies = [["Yes.", "No.", "Yes."], ["A", "A", "A"], [None, "B " * 99, "B"]]
    found = verify(str(tmp_path / "reward"), items, replies)
    for item, texts, scores in zip(items, replies, found, strict=True):
        for text, score in zip(texts, scores, strict=True):
            if text is None or len(text) > 9:
                assert score == WORST
                continue
            messages = [Message("user", item.fields["q"]), Message("assistant", text)]
            with torch.no_grad():
                reward = float(model(torch.tensor([compile_chat(tokenizer, messages).token_ids]))[0])
            assert score == pytest.approx(reward, abs=1e-4)


def test_what_cannot_be_sampled_is_refused(table):
    for settings, message in (
        ({"budgets": [4]}, "budgets need a local model"),
        ({"verifiers": ["votes", "votes"]}, "named twice"),
        ({"verifiers": ["no-such-folder"]}, "no such verifier"),
        ({"budgets": [0]}, "1 or more"),
    ):
        with pytest.raises(UserError, match=message):
            measure(table, Noisy(), **settings)
