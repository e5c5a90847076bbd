"""Which steps saw a document: every position of every batch of a run is accounted for, and by the right tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parakit.cli.show import main as show
from parakit.common import UserError
from parakit.data import iter_corpus
from parakit.data.document_search import find_documents, search_documents
from parakit.stages.config import PretrainConfig
from parakit.stages.corpora.history import runs_that_saw
from parakit.stages.data import make_corpus, make_shards, make_tokenizer
from parakit.stages.data_config import CorpusConfig
from parakit.stages.job import run_job
from parakit.stages.plans import ModelSpec
from parakit.stages.pretraining import PretrainJob
from parakit.tokens.config import TokenizerConfig
from parakit.tokens.shards import TokenShards
from parakit.training.trainer import Trainer
from tests.sample_text import sentences

N_STEPS = 14


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, list[Any]]]:
    """A build's folder with a trained model of several epochs, and the batches that its steps really read."""
    root, batches = tmp_path_factory.mktemp("history"), {}
    (root / "text").mkdir()
    for i in range(12):
        (root / "text" / f"{i}.txt").write_text(sentences(i, 2 + 5 * (i % 2)) + f"\n\nThe mark of file {i}.")
    config = CorpusConfig(
        paths=(str(root / "text"),), validation_fraction=0.2, test_fraction=0, max_document_chars=300
    )
    corpus = make_corpus(config, root / "corpus")
    make_tokenizer(corpus, TokenizerConfig(vocab_size=300), root / "tokenizer")
    make_shards(corpus, root / "tokenizer", root / "shards")
    original = Trainer.micro_batches

    def recorded(trainer: Trainer, step: int) -> list[Any]:
        batches[step] = original(trainer, step)
        return batches[step]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "micro_batches", recorded)
        training = PretrainConfig.parse(
            {"batch_tokens": 128, "micro_batch_size": 3, "seq_len": 16, "max_steps": N_STEPS, "device": "cpu"}
            | {"compile": "off", "seed": 5, "batch_growth": 2, "warmup_steps": 0},
            "test",
        )
        spec = ModelSpec(family="decoder", architecture=None, size="20k", max_seq_len=16)
        job = PretrainJob(root / "shards", root / "tokenizer", root / "work", training, spec)
        run_job(job, root / "pretrain")
    return root, batches


def test_every_position_of_every_batch_is_of_the_document_that_claims_it(
    run: tuple[Path, dict[int, list[Any]]],
) -> None:
    root, batches = run
    rows = {
        step: (np.concatenate([b.input_ids.numpy() for b in batches[step]]), _real(batches[step]))
        for step in range(N_STEPS)
    }
    shards = TokenShards.open(root / "shards", "train")
    claimed = {step: np.zeros_like(real, dtype=int) for step, (_, real) in rows.items()}
    for number in range(shards.n_documents):
        (entry,) = runs_that_saw(root / "corpus", "train", number)
        ids = shards.token_ids[shards.offsets[number] : shards.offsets[number + 1]]
        for one in entry["steps"]:
            columns = slice(one["column"], one["column"] + one["n_tokens"])
            first = one["first_token"]
            assert (
                rows[one["step"] - 1][0][one["row"], columns] == ids[first : first + one["n_tokens"]]
            ).all()
            claimed[one["step"] - 1][one["row"], columns] += 1
        assert entry["times"] >= 1
        assert entry["tokens"] == sum(one["n_tokens"] for one in entry["steps"])
    for step, (_, real) in rows.items():
        assert (claimed[step] == real).all(), step  # each once, padding by none


def _real(batches: list[Any]) -> np.ndarray:
    masks = (np.ones(b.input_ids.shape) if b.loss_mask is None else b.loss_mask.numpy() for b in batches)
    return np.concatenate(list(masks)).astype(int)


def test_show_tells_of_a_document_from_the_corpus_and_from_the_run(
    run: tuple[Path, dict[int, list[Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, _ = run
    wanted = next(iter_corpus(root / "corpus", "train"))
    (found,) = find_documents(root / "corpus", wanted.digest[:10])
    for path in (root / "corpus", root / "pretrain"):
        assert show([str(path), "--document", wanted.digest[:16], "--json"]) == 0
        (entry,) = json.loads(capsys.readouterr().out)["documents"]
        assert (entry["source"], entry["split"], entry["number"]) == (wanted.source, "train", found.number)
        assert Path(entry["file"]).name == Path(wanted.source).name
        assert [Path(one["run"]).name for one in entry["runs"]] == ["pretrain"]
        assert entry["runs"][0]["steps"]
    assert show([str(root / "corpus"), "--document", wanted.digest[:16]]) == 0
    assert f"of {N_STEPS} steps read" in capsys.readouterr().out
    held_out = next(iter_corpus(root / "corpus", "validation"))
    assert show([str(root / "corpus"), "--document", held_out.digest[:16]]) == 0
    assert "which no step reads" in capsys.readouterr().out


def test_documents_are_found_by_their_text(
    run: tuple[Path, dict[int, list[Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = run[0] / "corpus"
    assert show([str(corpus), "--search", "mark of file 3.", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n_documents"] == 1
    assert found["documents"][0]["source"] == "text/3.txt"
    assert "mark of file 3." in found["documents"][0]["excerpt"]
    assert len(list(search_documents(corpus, "The mark of file"))) == 12
    assert list(search_documents(corpus, '\n\n"')) == []
    assert show([str(corpus), "--search", "source"]) == 1  # a key of the rows, no text
    for bad, match in (("zz", "no id of a document"), ("0123456789abcdef", "has no document")):
        with pytest.raises(UserError, match=match):
            find_documents(corpus, bad)
