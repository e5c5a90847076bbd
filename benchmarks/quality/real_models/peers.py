"""The other side of `real_models`: transformers, peft, trl and sentence-transformers on the same weights and data.

Rows are unpadded and one at a time, encoded by transformers' tokenizer and template, stepped by torch's AdamW. Nothing of
Parakit's data path is used but the rows of a book, whose cuts are Parakit's own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.quality.real_models.data import Rows

N_STEPS, BETAS, GRAD_CLIP = 3, (0.9, 0.999), 1.0
KL_COEF, CENTERING_COEF, HARD_LABEL_SHARE = 0.1, 0.01, 0.2
LossOfStep = Callable[[int], Iterator[Tensor]]


def load_peer(folder: Path, kind: str = "AutoModelForCausalLM", **settings: Any) -> Any:
    """transformers' model of a folder, in float32."""
    import transformers

    return getattr(transformers, kind).from_pretrained(folder, dtype="float32", **settings).eval()


def load_tokenizer(folder: Path) -> Any:
    """transformers' tokenizer of a folder."""
    import transformers

    return transformers.AutoTokenizer.from_pretrained(folder)


def adamw_losses(model: Any, losses_of_step: LossOfStep, learning_rate: float) -> list[float]:
    """The loss of each step; `losses_of_step(step)` gives its parts, which are summed."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, learning_rate, betas=BETAS, weight_decay=0.0)
    found = []
    for step in range(N_STEPS):
        total = 0.0
        for loss in losses_of_step(step):
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(trained, GRAD_CLIP)
        optimizer.step()
        optimizer.zero_grad()
        found.append(total)
    return found


def chat_ids(tokenizer: Any, rows: Rows) -> list[tuple[list[int], list[bool]]]:
    """Each conversation's ids by the published template, and which of them the assistant wrote, the end of turn included."""
    found = []
    lead = tokenizer.encode("<|im_start|>assistant\n", add_special_tokens=False)
    for row in rows:
        ids = tokenizer.apply_chat_template(row["messages"], return_dict=False)
        counted = [False] * len(ids)
        starts = [i + len(lead) for i in range(len(ids)) if ids[i : i + len(lead)] == lead]
        for start in starts:
            end = ids.index(tokenizer.eos_token_id, start)
            counted[start : end + 1] = [True] * (end + 1 - start)
        found.append((ids, counted))
    return found


def chat_losses(model: Any, rows: list[tuple[list[int], list[bool]]], learning_rate: float) -> list[float]:
    """Tuning on all conversations in every step; the loss counts the assistant's tokens."""
    n_counted = sum(sum(counted[1:]) for _, counted in rows)

    def losses(_: int) -> Iterator[Tensor]:
        for ids, counted in rows:
            logits = model(torch.tensor([ids[:-1]])).logits[0]
            kept = torch.tensor(counted[1:])
            yield (
                functional.cross_entropy(logits[kept], torch.tensor(ids[1:])[kept], reduction="sum")
                / n_counted
            )

    return adamw_losses(model, losses, learning_rate)


def distillation_losses(
    student: Any, teacher: Any, rows: list[tuple[list[int], list[bool]]], learning_rate: float
) -> list[float]:
    """The same rows: KL(teacher || student) with a share of cross-entropy, in float64."""
    n_counted = sum(sum(counted[1:]) for _, counted in rows)

    def losses(_: int) -> Iterator[Tensor]:
        for ids, counted in rows:
            kept, targets = torch.tensor(counted[1:]), torch.tensor(ids[1:])
            inputs = torch.tensor([ids[:-1]])
            with torch.no_grad():
                wanted = teacher(inputs).logits[0][kept].double().log_softmax(-1)
            found = student(inputs).logits[0][kept].double().log_softmax(-1)
            divergence = (wanted.exp() * (wanted - found)).sum()
            labels = functional.nll_loss(found, targets[kept], reduction="sum")
            yield ((1 - HARD_LABEL_SHARE) * divergence + HARD_LABEL_SHARE * labels) / n_counted

    return adamw_losses(student, losses, learning_rate)


def packed_losses(model: Any, batch_of_step: Callable[[int], Any], learning_rate: float) -> list[float]:
    """Rows of several documents, which do not see each other: `batch_of_step` gives Parakit's batches."""

    def losses(step: int) -> Iterator[Tensor]:
        batch = batch_of_step(step)
        for row in range(len(batch.input_ids)):
            ids, targets, positions = (
                torch.from_numpy(array[row : row + 1])
                for array in (batch.input_ids, batch.target_ids, batch.position_ids)
            )
            documents = torch.from_numpy(batch.document_ids[row])
            allowed = (documents[:, None] == documents[None]).tril()
            mask = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
            logits = model(ids, attention_mask=mask[None, None], position_ids=positions).logits
            counted = torch.from_numpy(batch.loss_mask[row : row + 1])
            total = functional.cross_entropy(logits[counted], targets[counted], reduction="sum")
            yield total / batch.n_counted

    return adamw_losses(model, losses, learning_rate)


def classification_losses(
    model: Any, tokenizer: Any, texts: list[str], labels: list[int], learning_rate: float
) -> list[float]:
    """All texts in every step."""

    def losses(_: int) -> Iterator[Tensor]:
        for text, label in zip(texts, labels, strict=True):
            logits = model(**tokenizer(text, return_tensors="pt")).logits
            yield functional.cross_entropy(logits, torch.tensor([label])) / len(texts)

    return adamw_losses(model, losses, learning_rate)


def reward_losses(model: Any, tokenizer: Any, rows: Rows, learning_rate: float) -> list[float]:
    """transformers' trunk and head under trl's formula: all pairs in every step.

    The reward is read at the answer's end of turn. trl itself reads the template's line end behind it, or, where PAD equals
    the end of turn as in this model, a token before it.
    """

    def reward(row: dict[str, Any], answer: str) -> Tensor:
        messages = [*row["prompt"], {"role": "assistant", "content": row[answer]}]
        ids = tokenizer.apply_chat_template(messages, return_dict=False)
        end = len(ids) - ids[::-1].index(tokenizer.eos_token_id)
        hidden = model.model(torch.tensor([ids[:end]])).last_hidden_state[0, -1]
        return model.score(hidden)[0]

    def losses(_: int) -> Iterator[Tensor]:
        for row in rows:
            chosen, rejected = reward(row, "chosen"), reward(row, "rejected")
            centered = CENTERING_COEF * (chosen + rejected) ** 2
            yield (centered - functional.logsigmoid(chosen - rejected)) / len(rows)

    return adamw_losses(model, losses, learning_rate)


def dpo_losses(folder: Path, rows: Rows, learning_rate: float) -> list[float]:
    """trl's DPOTrainer; all pairs in every step."""
    import datasets
    import trl

    tokenizer = load_tokenizer(folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    data = [
        {
            "prompt": tokenizer.apply_chat_template(
                row["prompt"], add_generation_prompt=True, tokenize=False
            ),
            "chosen": row["chosen"],
            "rejected": row["rejected"],
        }
        for row in rows
    ]
    with tempfile.TemporaryDirectory() as out:
        config = trl.DPOConfig(
            output_dir=out, beta=KL_COEF, precompute_ref_log_probs=True, max_length=None, learning_rate=learning_rate,
            lr_scheduler_type="constant", warmup_steps=0, weight_decay=0.0, max_grad_norm=GRAD_CLIP,
            adam_beta2=BETAS[1], logging_steps=1, save_strategy="no", report_to="none", use_cpu=True, bf16=False,
            gradient_checkpointing=False, disable_tqdm=True, max_steps=N_STEPS, per_device_train_batch_size=len(rows),
        )  # fmt: skip
        done = trl.DPOTrainer(
            load_peer(folder),
            args=config,
            train_dataset=datasets.Dataset.from_list(data),
            processing_class=tokenizer,
        )
        done.train()
    return [row["loss"] for row in done.state.log_history if "loss" in row]
