"""Figures that mean nothing: end tokens in the bits per byte of text, a document in pieces, a difference that is noise."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from parakit.data.documents import Document
from parakit.evaluation.comparison.losses import loss_difference, seed_spread, verdict
from parakit.evaluation.perplexity import encode_documents, evaluate_loss, evaluate_text
from tests.contracts.training_cases import TrainingCase, make_model


@pytest.mark.catches("ends-measured-as-text")
def test_shards_that_do_not_name_their_ends(pretrain: TrainingCase) -> None:
    changed = pretrain.replace(shards=replace(pretrain.shards, end_ids=()))
    assert changed.failures() == ["ends-measured-as-text"]


def test_an_end_token_of_a_short_text_would_change_its_figure(pretrain: TrainingCase) -> None:
    """The exhibit: with the end counted as text, nats of no byte are in the bits per byte."""
    text = "The small bird sings."
    shards = encode_documents(pretrain.tokenizer, [Document(text, "x", len(text))])
    found = evaluate_loss(pretrain.model, shards)
    wrong = evaluate_loss(pretrain.model, replace(shards, end_ids=()))
    assert (wrong.n_end_tokens, found.n_end_tokens) == (0, 1)
    excess = (wrong.bits_per_byte - found.bits_per_byte) * len(text) * math.log(2)
    assert excess == pytest.approx(found.end_nats_per_token, rel=1e-5)


def test_a_file_in_pieces_is_counted(pretrain: TrainingCase, tmp_path: Any) -> None:
    file = tmp_path / "long.txt"
    file.write_text("The small bird sings. It is late.\n\n" * 800)  # 28,000 characters
    whole = evaluate_text(pretrain.model, pretrain.tokenizer, [str(file)])
    pieces = evaluate_text(pretrain.model, pretrain.tokenizer, [str(file)], max_document_chars=20_000)
    assert (whole.n_documents, whole.n_end_tokens) == (1, 1)
    assert pieces.n_documents == pieces.n_end_tokens == 2


def test_runs_that_differ_by_their_seed_are_no_improvement(pretrain: TrainingCase) -> None:
    """Untrained models of five seeds: what one claims over another is above the noise of the text, and not of seeds."""
    text = "The small bird sings. It is late, and nobody knows the way home.\n" * 40
    shards = encode_documents(pretrain.tokenizer, [Document(text, "x", len(text))])
    losses = []
    for seed in range(5):
        model = make_model(pretrain.tokenizer.vocab_size)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        losses.append(evaluate_loss(model.eval(), shards))
    figures = sorted(losses, key=lambda loss: loss.bits_per_byte)
    best, others = figures[1], [figures[0], *figures[2:]]
    difference = loss_difference({**vars(figures[-1])}, {**vars(best)})
    assert difference.above_noise
    line = verdict(difference, seed_spread([one.bits_per_byte for one in others]), best.bits_per_byte)
    assert "above the noise of the evaluation set; within the noise of seeds" in line
