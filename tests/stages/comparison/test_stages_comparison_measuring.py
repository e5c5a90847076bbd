"""Every tuning is measured on both sides: figures against independent ones, weights untouched, kept by a resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from parakit.alignment.config import AlignConfig
from parakit.checkpoints.loading import load_model
from parakit.checkpoints.model_folder import save_model
from parakit.common.artifacts import Lineage, open_artifact
from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Conversation, Message, write_conversations
from parakit.data.conversations.sets import prepare_conversations
from parakit.evaluation.general_text import general_loss, general_texts
from parakit.evaluation.perplexity import encode_documents
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.text import generate
from parakit.model import LanguageModel
from parakit.stages.alignment import AlignJob
from parakit.stages.comparison import measuring
from parakit.stages.comparison.prompts import held_out_prompts, shown_prompt
from parakit.stages.config import FinetuneConfig
from parakit.stages.finetuning import FinetuneJob
from parakit.stages.job import run_job
from parakit.stages.job_builders import align, finetune_job
from parakit.stages.tasks import Splits
from parakit.tokens.chat.template import compile_chat
from parakit.tokens.shards import TokenShards
from parakit.training.trainer import Trainer
from tests.alignment.rl.tiny_policy import QUESTIONS, tiny_policy, tiny_tokenizer

SETTINGS: dict[str, Any] = {
    "max_steps": 3, "batch_tokens": 96, "seq_len": 28, "device": "cpu", "compile": "off", "warmup_steps": 0,
    "n_compared_prompts": 3, "max_compared_tokens": 5, "save_every": 1, "optimizer": "adamw", "learning_rate": 0.01,
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(
        tiny_policy(), tiny_tokenizer(), tmp_path_factory.mktemp("base") / "model", Lineage("model", {})
    )


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty conversations, a third of them held out."""
    file = tmp_path_factory.mktemp("chats") / "chats.jsonl"
    texts = [f"{text} {number}" for text in QUESTIONS for number in range(12)]
    write_conversations(
        file, (Conversation((Message("user", text), Message("assistant", "a bird"))) for text in texts)
    )
    return prepare_conversations([str(file)], file.parent / "conversations", validation_fraction=0.3)


def tuned(model: Path, chats: Path, out: Path, **changes: Any) -> dict[str, Any]:
    return run_job(job(model, chats, out, **changes), out)


def job(model: Path, chats: Path, out: Path, **changes: Any) -> FinetuneJob:
    settings = {name: value for name, value in (SETTINGS | changes).items() if value is not None}
    training = FinetuneConfig.parse(settings)
    return finetune_job(model, out.parent / f".{out.name}", training, conversations=[chats])


def compared(**changes: Any) -> dict[str, Any]:
    return {"before_after": "none", "n_compared_prompts": None, "max_compared_tokens": None} | changes


def by_hand(model: LanguageModel) -> float:
    """The loss of a forward pass per window of each text, without its EOS, with torch's cross-entropy."""
    tokenizer, nats, n = tiny_tokenizer(), 0.0, 0
    window = model.config.max_seq_len
    for text in general_texts().values():
        ids = torch.tensor([tokenizer.bos_id, *tokenizer.encode(text)])
        for first in range(0, len(ids) - 1, window):
            end = min(first + window, len(ids) - 1)
            logits = model(ids[None, max(0, end - window) : end])[0][first - end :]
            nats += float(
                functional.cross_entropy(logits.double(), ids[first + 1 : end + 1], reduction="sum")
            )
            n += end - first
    return nats / n


def test_the_loss_on_the_general_text_is_that_of_plain_forward_passes() -> None:
    model = tiny_policy()
    with torch.no_grad():
        assert general_loss(model, tiny_tokenizer()).n_tokens <= 2048
    few = encode_documents(tiny_tokenizer(), ())
    assert few.n_tokens == 0
    limited = {kind: text[:150] for kind, text in general_texts().items()}
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr("parakit.evaluation.general_text.general_texts", lambda: limited)
        patch.setitem(globals(), "general_texts", lambda: limited)
        found = general_loss(model, tiny_tokenizer())
        assert found.loss_nats_per_token == pytest.approx(by_hand(model), abs=1e-5)
        one = general_loss(model, tiny_tokenizer(), 1)
    assert one.n_tokens < found.n_tokens
    assert len(general_texts()) >= 5


def test_figures_are_those_of_the_folders_before_and_after(model, chats, tmp_path) -> None:
    figures = tuned(model, chats, tmp_path / "out")
    found = figures["before_after"]
    before, tokenizer = load_model(model)
    after, _ = load_model(tmp_path / "out")
    assert found["general_before"] == pytest.approx(
        general_loss(before, tokenizer).loss_nats_per_token, abs=1e-6
    )
    assert found["general_after"] == pytest.approx(
        general_loss(after, tokenizer).loss_nats_per_token, abs=1e-6
    )
    assert found["forgotten"] == pytest.approx(found["general_after"] - found["general_before"])
    assert found["loss_after"] == figures["loss"] < found["loss_before"] == figures["before"]["loss"]
    assert figures["validations"][0]["step"] == 0
    greedy = SamplingConfig(temperature=0.0, max_new_tokens=5)
    assert len(found["answers"]) == 3
    for pair in found["answers"]:
        prompt = [Message("user", pair["prompt"])]
        assert pair["before"] == generate(before, tokenizer, prompt, greedy).text
        assert pair["after"] == generate(after, tokenizer, prompt, greedy).text
    recorded = open_artifact(tmp_path / "out").lineage["result"]["before_after"]
    assert recorded == json.loads(json.dumps(found))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "## Before and after" in card
    assert "nats a token" in card
    assert card.count("| who ") + card.count("| where ") + card.count("| is ") + card.count("| what ") >= 2


@pytest.mark.parametrize("method", ["lora", "prompt", "prefix"])
def test_before_an_adapter_is_its_base(model, chats, tmp_path, method) -> None:
    few = {} if method == "lora" else {"n_prompt_tokens": 4}
    figures = tuned(model, chats, tmp_path / "out", method=method, **few)
    found = figures["before_after"]
    base, tokenizer = load_model(model)
    assert found["general_before"] == pytest.approx(
        general_loss(base, tokenizer).loss_nats_per_token, abs=1e-6
    )
    full = tuned(model, chats, tmp_path / "full", max_steps=1)["before_after"]
    assert found["loss_before"] == pytest.approx(full["loss_before"], abs=1e-6)
    assert [pair["before"] for pair in found["answers"]] == [pair["before"] for pair in full["answers"]]
    adapted, _ = load_model(tmp_path / "out")
    assert found["general_after"] == pytest.approx(
        general_loss(adapted, tokenizer).loss_nats_per_token, abs=1e-5
    )
    assert "## Before and after" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("method", ["full", "lora"])
def test_measuring_leaves_the_trained_weights_as_they_are(model, chats, tmp_path, method) -> None:
    changes = {"dropout": 0.2} if method == "full" else {"method": "lora", "lora_dropout": 0.2}
    assert "before_after" in tuned(model, chats, tmp_path / "measured", **changes)
    plain = tuned(model, chats, tmp_path / "plain", **changes, **compared())
    assert "before_after" not in plain
    states = [load_model(tmp_path / name)[0].state_dict() for name in ("measured", "plain")]
    for name, weight in states[0].items():
        assert torch.equal(weight, states[1][name])


def test_losses_alone_have_no_answers(model, chats, tmp_path) -> None:
    found = tuned(model, chats, tmp_path / "out", **compared(before_after="losses"))["before_after"]
    assert found.keys() >= {"forgotten", "loss_before"}
    assert "answers" not in found


def test_a_resumed_run_has_the_figures_of_before(model, chats, tmp_path, monkeypatch) -> None:
    whole = tuned(model, chats, tmp_path / "whole")["before_after"]
    broken = job(model, chats, tmp_path / "out")
    save = Trainer.save

    def save_and_stop(self: Trainer, step: int) -> None:
        save(self, step)
        raise OSError("the power fails")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save", save_and_stop)
        with pytest.raises(OSError, match="the power fails"):
            run_job(broken, tmp_path / "out")
    measured: list[object] = []
    general = measuring.general_loss
    monkeypatch.setattr(measuring, "general_loss", lambda *given: measured.append(given) or general(*given))
    resumed = run_job(broken, tmp_path / "out")["before_after"]
    assert len(measured) == 1  # after; before is read from the run directory
    assert resumed | {"seconds": 0} == whole | {"seconds": 0}


def test_a_classifier_says_why_nothing_is_answered(model, tmp_path) -> None:
    rows = [
        {"text": f"{text} {number}", "label": "ab"[number % 2]} for text in QUESTIONS for number in range(12)
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    training = FinetuneConfig(task="classify", max_steps=1, batch_examples=4, device="cpu", compile="off")
    work = tmp_path / "work"
    figures = run_job(finetune_job(model, work, training, examples=[file]), tmp_path / "out")
    found = figures["before_after"]
    assert "Classifier" in found["skipped"][0]
    assert found["loss_before"] > 0
    assert found.keys().isdisjoint({"forgotten", "answers"})


def test_prompts_are_those_that_the_template_compiles(model, chats, tmp_path) -> None:
    tokenizer = tiny_tokenizer()
    shards = Splits.of_task(job(model, chats, tmp_path / "out").shards, "chat").validation
    assert isinstance(shards, TokenShards)
    prompts = held_out_prompts(shards, tokenizer, 3, 40)
    assert len(prompts) == 3
    for prompt in prompts:
        message = [{"role": "user", "content": prompt.text}]
        assert (
            list(prompt.token_ids) == compile_chat(tokenizer, message, add_generation_prompt=True).token_ids
        )
        assert shown_prompt(tokenizer, prompt.token_ids) == prompt.text
    assert held_out_prompts(shards, tokenizer, 3, 2) == []


@pytest.mark.parametrize("method", ["dpo", "grpo", "best_of_n"])
def test_alignment_is_measured_too(model, chats, tmp_path, method) -> None:
    settings: dict[str, Any] = {"method": method, "device": "cpu", "compile": "off", "max_steps": 1}
    settings |= {"n_compared_prompts": 2, "max_compared_tokens": 4}
    if method == "dpo":
        data = tmp_path / "pairs.jsonl"
        pairs = [
            {"prompt": f"{q} {n}", "chosen": "a bird", "rejected": "rain"}
            for q in QUESTIONS
            for n in range(9)
        ]
        data.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
        from parakit.stages.data import make_preferences

        data = make_preferences((str(data),), tmp_path / "preferences", 0.3)
        settings |= {"batch_examples": 4}
    else:
        data = chats
        settings |= {"reward": "length=3", "max_new_tokens": 4, "group_size": 2}
        settings |= {"rollout_prompts": 2, "minibatches": 1} if method == "grpo" else {}
    figures = align(AlignJob(model, data, tmp_path / "work", AlignConfig.parse(settings)), tmp_path / "out")
    found = figures["before_after"]
    assert len(found["answers"]) == 2
    policy, tokenizer = load_model(tmp_path / "out")
    assert found["general_after"] == pytest.approx(
        general_loss(policy, tokenizer).loss_nats_per_token, abs=1e-6
    )


def test_what_would_take_too_long_is_left_out_and_named(model, chats, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(measuring, "MAX_SECONDS", 1e-9)
    found = tuned(model, chats, tmp_path / "out")["before_after"]
    assert "3 of 3 prompts are not answered" in found["skipped"][0]
    assert "answers" not in found
    monkeypatch.setattr(measuring, "LARGE_PARAMETERS", 1)
    fewer = tuned(model, chats, tmp_path / "fewer")["before_after"]
    assert fewer["general_tokens"] < found["general_tokens"]


def test_a_setting_of_answers_without_answers_is_refused() -> None:
    with pytest.raises(UserError, match="n_compared_prompts"):
        FinetuneConfig.parse({"before_after": "losses", "n_compared_prompts": 3})
