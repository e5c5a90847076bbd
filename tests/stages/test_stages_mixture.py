"""A run on a mixture with a curriculum: proportions as they came out, losses by source, and an exact resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parakit.common import open_artifact
from parakit.data.documents import Document, make_document
from parakit.data.mixture import Mixture
from parakit.evaluation.perplexity import evaluate_loss
from parakit.stages.config import PretrainConfig
from parakit.stages.job import run_job
from parakit.stages.plans import ModelSpec
from parakit.stages.pretraining import PretrainJob
from parakit.tokens.config import TokenizerConfig
from parakit.tokens.shard_parts import select_source
from parakit.tokens.shards import TokenShards, write_shards
from parakit.tokens.tokenizer.training import train_tokenizer
from parakit.training.trainer import Trainer
from tests.sample_text import sentences

N_STEPS, N_ROWS, SEQ_LEN = 10, 8, 16
STAGES = [{"until": 0.7, "weights": {"books": 3, "mail": 1}}, {"until": 1.0, "weights": {"manual": 1}}]


def documents(first: int, n: int) -> list[Document]:
    return [make_document(f"{'xyz'[i % 3]} " + sentences(first + i, 6), f"{i}.txt")[0] for i in range(n)]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mixture")
    splits = {"train": documents(0, 30), "validation": documents(500, 9)}
    tokenizer = train_tokenizer((one.text for one in splits["train"]), TokenizerConfig(vocab_size=300))
    tokenizer.save(root / "tokenizer")
    mixture = Mixture.parse({"names": ["books", "mail", "manual"], "curriculum": STAGES}, "test")
    source_of = {name: np.arange(len(items)) % 3 for name, items in splits.items()}
    return write_shards(splits, tokenizer, root / "shards", mixture=mixture, source_of=source_of)


def job(shards: Path, out: Path) -> PretrainJob:
    settings = {"batch_tokens": N_ROWS * SEQ_LEN, "seq_len": SEQ_LEN, "max_steps": N_STEPS, "device": "cpu"}
    settings |= {"compile": "off", "save_every": 2, "micro_batch_size": 5}
    spec = ModelSpec(family="decoder", architecture=None, size="20k", max_seq_len=SEQ_LEN)
    training = PretrainConfig.parse(settings, "test")
    return PretrainJob(shards, shards.with_name("tokenizer"), out / "work", training, spec)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> dict[int, np.ndarray]:
    """The rows that each step reads."""
    found: dict[int, np.ndarray] = {}
    original = Trainer.micro_batches

    def recorded(trainer: Trainer, step: int) -> Any:
        made = original(trainer, step)
        found[step] = np.concatenate([batch.input_ids.numpy() for batch in made])
        return made

    monkeypatch.setattr(Trainer, "micro_batches", recorded)
    return found


@pytest.mark.long
def test_a_run_reports_its_mixture_and_resumes_exactly_across_the_change(
    shards: Path, tmp_path: Path, batches: dict[int, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = run_job(job(shards, tmp_path / "whole"), tmp_path / "whole/model")
    rows = {row["name"]: row for row in figures["mixture"]}
    assert rows["books"]["wished"] == pytest.approx(0.7 * 0.75)
    assert rows["manual"]["wished"] == pytest.approx(0.3)
    total = N_STEPS * N_ROWS
    assert rows["books"]["share"] * total == pytest.approx(42, abs=1.2)  # the end of an epoch has padding
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1)
    train = TokenShards.open(shards, "train")
    assert train.source_of is not None
    marks = {
        int(train.token_ids[start + 1]): source
        for start, source in zip(train.offsets[:-1], train.source_of, strict=True)
    }
    late = np.concatenate([batches[step] for step in range(7, N_STEPS)])
    assert {marks[int(t)] for t in np.unique(late) if int(t) in marks} == {2}
    whole = dict(batches)

    validation = TokenShards.open(shards, "validation")
    model = _load(tmp_path / "whole/model")
    for number, row in enumerate(figures["mixture"]):
        part = select_source(validation, number)
        texts = [one.n_bytes for i, one in enumerate(documents(500, 9)) if i % 3 == number]
        assert part.n_bytes == sum(texts)
        assert row["bits_per_byte"] == pytest.approx(
            evaluate_loss(model, part, seq_len=SEQ_LEN).bits_per_byte
        )

    batches.clear()
    broken = Trainer.micro_batches

    def dies(trainer: Trainer, step: int) -> Any:
        if step == 6:
            raise KeyboardInterrupt
        return broken(trainer, step)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "micro_batches", dies)
        with pytest.raises(KeyboardInterrupt):
            run_job(job(shards, tmp_path / "again"), tmp_path / "again/model")
    run_job(job(shards, tmp_path / "again"), tmp_path / "again/model")
    assert batches.keys() == whole.keys()
    assert all((batches[step] == whole[step]).all() for step in whole)
    one, other = (_weights(tmp_path / name / "model") for name in ("whole", "again"))
    assert all((one[name] == other[name]).all() for name in one)
    assert open_artifact(tmp_path / "again/model").lineage["result"]["mixture"] == figures["mixture"]


def _load(folder: Path) -> Any:
    from parakit.checkpoints.loading import load_model

    return load_model(folder)[0]


def _weights(folder: Path) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in _load(folder).state_dict().items()}
