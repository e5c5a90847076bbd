"""No false alarm: thirty varied correct runs, each on a corpus of its own, pass every check without a warning."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from parakit.common.files import read_json
from parakit.data.config import TextConfig
from parakit.data.corpus import FACTS, prepare_corpus
from parakit.tokens.config import TokenizerConfig
from parakit.tokens.tokenizer.training import train_tokenizer
from tests.contracts.training_cases import DOCUMENTS, TrainingCase, make_case
from tests.data.sentences import SENTENCES

LANGUAGES = list(SENTENCES)
EXPERTS = {"n_experts": 4, "n_active_experts": 1, "d_expert": 12}
DECODERS: list[tuple[str, str, int, dict[str, Any], str]] = [
    ("next_token", "concat", 96, {}, "byte_bpe"),
    ("next_token", "pack", 96, {}, "byte_bpe"),
    ("next_token", "concat", 32, {"tie_embeddings": False}, "byte_bpe"),
    ("next_token", "concat", 96, {"dropout": 0.2}, "char"),
    ("next_token", "pack", 64, {"n_heads": 4, "n_kv_heads": 4, "head_dim": 4}, "unigram"),
    ("next_token", "concat", 96, {"n_layers": 1, "d_model": 20, "d_ff": 7}, "word"),
    ("next_token", "concat", 96, EXPERTS, "byte_bpe"),
    ("next_token", "pack", 96, {"sliding_window": 8}, "byte_bpe"),
    ("next_token", "concat", 96, {"norm": "layer", "gated": False, "activation": "gelu"}, "wordpiece"),
    ("next_token", "pack", 96, {"positions": "learned", "max_seq_len": 128}, "byte_bpe"),
    ("next_token", "concat", 96, {"positions": "sinusoidal", "post_norm": True, "final_norm": False}, "byte_bpe"),
    ("chat", "pack", 96, {}, "byte_bpe"),
    ("chat", "concat", 96, {}, "byte_bpe"),
    ("chat", "pack", 96, {"tie_embeddings": False}, "char"),
    ("chat", "pack", 96, {"dropout": 0.1}, "unigram"),
    ("chat", "pack", 96, EXPERTS, "byte_bpe"),
    ("chat", "pack", 96, {"sliding_window": 16}, "wordpiece"),
    ("chat", "concat", 96, {"n_layers": 1, "n_heads": 4, "n_kv_heads": 2, "head_dim": 6}, "word"),
]  # fmt: skip
TASKS = [
    *("masked", "prefix", "span_corruption", "translate", "prefix_pairs", "classify", "multi_label", "tag"),
    *("regress", "answer", "embed"),
]
RUNS = [*range(len(DECODERS)), *TASKS, "masked with experts"]
assert len(RUNS) == 30


def corpus_facts(folder: Path, seed: int) -> dict[str, Any]:
    """The facts of a healthy corpus: 60 to 160 texts in one to three languages, as files or as rows."""
    draw = random.Random(seed)
    languages = draw.sample(LANGUAGES, draw.randint(1, 3))
    texts = []
    for k in range(draw.randint(60, 160)):
        words = SENTENCES[draw.choice(languages)].split() * 3
        texts.append(
            " ".join(f"{word}{draw.randrange(10**4):x}" for word in draw.sample(words, len(words))) + f" {k}."
        )
    folder.mkdir()
    if seed % 3 == 0:
        (folder / "rows.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    else:
        for k, text in enumerate(texts):
            (folder / f"{k}.txt").write_text(text, encoding="utf-8")
    config = TextConfig(paths=(str(folder),), validation_fraction=0.15)
    report = read_json(prepare_corpus(config, folder.parent / "corpus") / "report.json")
    return {name: report[name] for name in FACTS}


@pytest.mark.long
@pytest.mark.parametrize("run", RUNS)
def test_a_correct_run_raises_no_alarm(
    run: int | str, tmp_path: Path, healthy_task: Callable[..., TrainingCase]
) -> None:
    if isinstance(run, str):
        shape = (
            {"n_experts": 4, "n_active_experts": 1, "d_expert": 12} if "experts" in run else {"n_layers": 2}
        )
        case = healthy_task(run.split()[0], **shape)
    else:
        task, packing, seq_len, shape, kind = DECODERS[run]
        texts = (document.text for document in DOCUMENTS)
        tokenizer = train_tokenizer(
            texts, TokenizerConfig(kind=kind, vocab_size=330 if kind == "byte_bpe" else 120)
        )
        case = make_case(tokenizer, task, packing, seq_len, **shape)
    facts = corpus_facts(tmp_path / "in", RUNS.index(run))
    if hasattr(case.shards, "corpus"):
        case = replace(case, shards=replace(case.shards, corpus=facts))
    assert [result.name for result in case.results() if not result.passed] == []
