"""What an encoder is judged by: two tasks that it is tuned for, each time alike, and the masked words that it fills.

`opinions`: positive or negative, with few labels to learn from. `judged`: whether an answer to a question of any skill is
right. Test rows are drawn from the held-out side of the primer, as everywhere. `suite_mean` is the mean of the two;
`filled` the share of masked tokens of the test split that the encoder names right.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

N_LABELS = {"opinions": 200, "judged": 4_000}
N_TESTED = 1_000
TUNED: dict[str, dict[str, Any]] = {
    "opinions": {"max_steps": 40, "batch_examples": 16},
    "judged": {"epochs": 2},
}
MASKED_ROWS, MASKED_SEED = 160, 7


@dataclass(frozen=True)
class Suite:
    """The tasks and texts of the encoder that was built in `build`; what is made for them goes into `folder`."""

    build: Path
    folder: Path

    def scores(self, model: Path, seed: int) -> dict[str, float]:
        """All figures of one model folder; `seed` is that of its tuning."""
        found = {task: self._tuned(model, task, seed) for task in TUNED}
        return {
            "suite_mean": sum(found.values()) / len(found),
            **found,
            "filled": self._filled(model),
        }

    def _tuned(self, model: Path, task: str, seed: int) -> float:
        """Accuracy on the task's test split after tuning for it."""
        from parakit.checkpoints import load_model
        from parakit.evaluation.examples import evaluate_examples
        from parakit.recipe.training.config import FinetuneConfig
        from parakit.recipe.training.jobs import Finetuning, finetune
        from parakit.text.examples import iter_examples

        examples, shards = self._data(task)
        quiet: dict[str, Any] = {"device": "cpu", "compile": "off", "validate_every": 10**6}
        training = FinetuneConfig(seed=seed, **quiet, **TUNED[task])
        out = self.folder / "tuned"
        finetune(Finetuning(model, shards, self.folder / ".tuned", training, "classify"), out, overwrite=True)
        tuned, tokenizer = load_model(out)
        assert tokenizer is not None
        return evaluate_examples(tuned, tokenizer, "classify", iter_examples(examples, "test")).value(
            "accuracy"
        )

    def _data(self, task: str) -> tuple[Path, Path]:
        """The task's examples and their shards, made once."""
        from parakit.text.examples import prepare_examples
        from parakit.tokens.examples import encode_examples
        from parakit.tokens.tokenizer import Tokenizer

        examples, shards = self.folder / task, self.folder / f"{task}_shards"
        if not shards.exists():
            files = {}
            for held_out, n in ((False, N_LABELS[task]), (True, N_TESTED)):
                files[held_out] = self.folder / f"{task}.{'test' if held_out else 'train'}.jsonl"
                rows = islice(_rows(task, held_out, n), n)
                files[held_out].write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            prepare_examples(
                [str(files[False])], "classify", examples, test=[str(files[True])], overwrite=True
            )
            tokenizer = Tokenizer.load(self.build / "tokenizer")
            encode_examples(examples, tokenizer, shards, family="encoder")
        return examples, shards

    def _filled(self, model: Path) -> float:
        """The share of masked tokens named right; the same places for every model."""
        import torch

        from parakit.checkpoints import load_model
        from parakit.tokens.batches import BatchSource
        from parakit.tokens.noising import MaskedSource, token_facts
        from parakit.tokens.shards import TokenShards
        from parakit.training.micro_batches import to_micro_batch
        from parakit.training.validation import one_epoch

        filler: Any
        filler, tokenizer = load_model(model)
        assert tokenizer is not None
        rows = BatchSource(
            TokenShards.open(self.build / "shards", "test"), filler.config.max_seq_len, MASKED_SEED, shift=0
        )
        source = MaskedSource(rows, token_facts(tokenizer), rate=0.3, whole_word=True)
        n_right = n = 0
        with torch.inference_mode():
            for batch in one_epoch(source, 16, MASKED_ROWS):
                micro = to_micro_batch(batch, torch.device("cpu"))
                hidden = filler.hidden(
                    micro.input_ids, position_ids=micro.position_ids, attention_mask=micro.attention_mask
                )
                named = filler.logits(hidden[micro.loss_mask]).argmax(-1)
                n_right += int((named == micro.target_ids[micro.loss_mask]).sum())
                n += len(named)
        return n_right / n


def _rows(task: str, held_out: bool, n: int) -> Iterable[dict[str, Any]]:
    from parakit.text import primer

    if task == "judged":
        return judged_answers(held_out)
    return primer.examples(primer.PrimerConfig(seed=0, n_examples=n, n_test_examples=n), "classify", held_out)


def judged_answers(held_out: bool) -> Iterator[dict[str, Any]]:
    """A question of each skill in turn, and its answer or a worse one, without end."""
    from parakit.text.primer.draws import Draws
    from parakit.text.primer.skills.worse import worse_answer
    from parakit.text.primer.writing import SKILLS

    draws = Draws(0, "judged", "test" if held_out else "train")
    for skill in cycle(SKILLS.values()):
        exercise = skill.draw(draws, held_out)
        right = draws.maybe(0.5)
        answer = exercise.answer if right else worse_answer(draws, exercise)
        yield {
            "text": f"{exercise.system} {exercise.question}".strip(),
            "text_pair": answer,
            "label": "right" if right else "wrong",
        }
