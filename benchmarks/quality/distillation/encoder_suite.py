"""What an encoder is judged by: a task that it is tuned for, always alike, and the masked words that it fills.

`opinions`: accuracy in telling positive from negative after tuning on 1,000 labels; what a test row is about is never met in
training. `filled`: the share of masked tokens of the test split that the encoder names right. `suite_mean` is the mean
of the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

N_LABELS, N_TESTED = 1_000, 1_000
TUNED: dict[str, Any] = {"epochs": 4, "device": "cpu", "compile": "off", "validate_every": 10**6}
MASK_RATE, MASK_SEED = 0.3, 7


@dataclass(frozen=True)
class Suite:
    """The task and the text of the encoder that was built in `build`; what is made for them goes into `folder`."""

    build: Path
    folder: Path

    def scores(self, model: Path, seed: int) -> dict[str, float]:
        """All figures of one model folder; `seed` is that of its tuning."""
        found = {"opinions": self._opinions(model, seed), "filled": self._filled(model)}
        return {"suite_mean": sum(found.values()) / len(found), **found}

    def _opinions(self, model: Path, seed: int) -> float:
        """Accuracy on held-out opinions of a copy that was tuned for them."""
        from parakit.checkpoints import load_model
        from parakit.data.examples import iter_examples
        from parakit.evaluation.examples import evaluate_examples
        from parakit.stages.config import FinetuneConfig
        from parakit.stages.finetuning import FinetuneJob
        from parakit.stages.job import run_job

        examples, shards = self._data()
        out, work = self.folder / "tuned", self.folder / ".tuned"
        run_job(
            FinetuneJob(
                model, shards, work, FinetuneConfig.parse({"task": "classify", "seed": seed} | TUNED)
            ),
            out,
            True,
        )
        tuned, tokenizer = load_model(out)
        assert tokenizer is not None
        return evaluate_examples(tuned, tokenizer, "classify", iter_examples(examples, "test")).value(
            "accuracy"
        )

    def _data(self) -> tuple[Path, Path]:
        """The opinions and their shards, made once."""
        from parakit.data.examples import prepare_examples
        from parakit.primer.config import PrimerConfig
        from parakit.primer.sources import primer_examples
        from parakit.tokens.examples.encoding import encode_examples
        from parakit.tokens.tokenizer.tokenizer import Tokenizer

        examples, shards = self.folder / "opinions", self.folder / "opinion_shards"
        if not shards.exists():
            config = PrimerConfig(seed=0, n_examples=N_LABELS, n_test_examples=N_TESTED)
            prepare_examples(primer_examples(config, "classify"), "classify", examples, overwrite=True)
            tokenizer = Tokenizer.load(self.build / "tokenizer")
            encode_examples(examples, tokenizer, shards, family="encoder")
        return examples, shards

    def _filled(self, model: Path) -> float:
        """The share of masked tokens named right; the same places for every model."""
        import torch

        from parakit.checkpoints import load_model
        from parakit.tokens.batches.masking import MaskedSource
        from parakit.tokens.batches.source import BatchSource
        from parakit.tokens.batches.vocab_info import VocabInfo
        from parakit.tokens.shards import TokenShards
        from parakit.training.micro_batches import to_micro_batch
        from parakit.training.validation import one_epoch

        filler: Any
        filler, tokenizer = load_model(model)
        assert tokenizer is not None
        shards = TokenShards.open(self.build / "shards", "test")
        rows = BatchSource(shards, filler.config.max_seq_len, MASK_SEED, shift=0)
        source = MaskedSource(rows, VocabInfo.from_tokenizer(tokenizer), rate=MASK_RATE, whole_word=True)
        n_right = n = 0
        with torch.inference_mode():
            for batch in one_epoch(source, 16):
                micro = to_micro_batch(batch, torch.device("cpu"))
                hidden = filler.hidden(
                    micro.input_ids, position_ids=micro.position_ids, attention_mask=micro.attention_mask
                )
                named = filler.logits(hidden[micro.loss_mask]).argmax(-1)
                n_right += int((named == micro.target_ids[micro.loss_mask]).sum())
                n += len(named)
        return n_right / n
