"""lm-eval's own functions and command line evaluate a folder of Parakit's, and an encoder-decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from parakit.common.errors import UserError
from parakit.evaluation.harness.backends import make_backend
from parakit.evaluation.harness.model import HarnessModel
from parakit.model.config import DecoderConfig, EncoderConfig, EncoderDecoderConfig
from parakit.model.heads import MaskedLanguageModel, SequenceToSequence
from parakit.tokens.tokenizer.tokenizer import Tokenizer


def test_lm_eval_evaluates_a_folder_by_name(model_folder: Path, data: Path) -> None:
    import lm_eval

    import parakit.evaluation.harness.registration
    from parakit.evaluation.harness.tasks import TaskLoader

    assert parakit.evaluation.harness.registration.RegisteredModel
    [loaded] = TaskLoader(data).load("arc_easy")
    found = lm_eval.simple_evaluate(
        model="parakit", model_args=f"path={model_folder}", tasks=list(loaded.tasks), bootstrap_iters=0, limit=3,
        task_manager=_no_tasks(),
    )  # fmt: skip
    assert found["results"]["arc_easy"]["sample_len"] == 3
    assert 0 <= found["results"]["arc_easy"]["acc,none"] <= 1


def _no_tasks() -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager(include_defaults=False)


def shape(tokenizer: Tokenizer) -> dict[str, int]:
    return {
        "vocab_size": tokenizer.vocab_size,
        "d_model": 16,
        "n_layers": 1,
        "n_heads": 2,
        "n_kv_heads": 2,
        "head_dim": 8,
        "d_ff": 24,
        "max_seq_len": 32,
    }


def test_an_encoder_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match="cannot give text a probability"):
        make_backend(MaskedLanguageModel(EncoderConfig(**shape(tokenizer))), tokenizer)


def test_an_encoder_decoder_scores_targets_given_sources(tokenizer: Tokenizer) -> None:
    torch.manual_seed(0)
    encoder = EncoderConfig(**shape(tokenizer))
    decoder = DecoderConfig(**shape(tokenizer))
    model = SequenceToSequence(EncoderDecoderConfig(encoder=encoder, decoder=decoder)).eval()
    backend = make_backend(model, tokenizer)
    pairs = [([5, 6, 7], [8, 9]), ([5], [10]), ([4, 4, 4, 4], [3, 2, 1])]
    with torch.no_grad():
        for (source, target), (value, _) in zip(pairs, backend.score(pairs), strict=True):
            inputs = torch.tensor([[model.config.decoder_start_id, *target[:-1]]])
            logits = model(torch.tensor([source]), inputs)[0].double().log_softmax(-1)
            assert value == pytest.approx(
                float(logits.gather(1, torch.tensor(target)[:, None]).sum()), abs=1e-4
            )
    texts = backend.generate([([5, 6], {"stop": [], "max_new_tokens": 4, "temperature": 0.0})])
    assert len(texts) == 1
    assert HarnessModel(backend, tokenizer).backend == "seq2seq"
