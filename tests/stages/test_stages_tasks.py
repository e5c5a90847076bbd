"""What a run learns from: the right batches for every objective and task, and held-out losses that can be compared."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from parakit.checkpoints import load_model
from parakit.common import UserError
from parakit.common.seeds import rng
from parakit.compression.config import DistillConfig
from parakit.data.corpus import iter_corpus
from parakit.model.presets import config_for_size, default_hyperparameters
from parakit.stages.config import FinetuneConfig, PretrainConfig
from parakit.stages.data import make_corpus, make_example_shards, make_examples, make_shards, make_tokenizer
from parakit.stages.data_config import CorpusConfig, ExamplesConfig
from parakit.stages.job import run_job
from parakit.stages.plans import ModelSpec, resolve_plan
from parakit.stages.pretraining import PretrainJob
from parakit.stages.task_models import build_model, task_model
from parakit.stages.tasks import Splits, TaskBuilder, task_settings
from parakit.tokens.batches.batch import (
    Batch,
    LabelledBatch,
    MaskedBatch,
    PairBatch,
    PrefixBatch,
    TextPairBatch,
)
from parakit.tokens.config import TokenizerConfig
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.doctor.setup import TrainingSetup
from parakit.training.initialization import DEVIATION
from parakit.training.metrics import METRICS, read_metrics
from parakit.training.tasks import TaskSettings, TrainingTask
from parakit.training.trainer import train
from tests.sample_text import WORDS, sentences

SEQ_LEN = 24
PRETRAINING = [
    ("next_token", "decoder", Batch),
    ("prefix", "decoder", PrefixBatch),
    ("masked", "encoder", MaskedBatch),
    ("span_corruption", "encoder-decoder", PairBatch),
    ("prefix", "encoder-decoder", PairBatch),
]
TASKS = [
    ("classify", "encoder", LabelledBatch),
    ("classify", "decoder", LabelledBatch),
    ("multi_label", "encoder", LabelledBatch),
    ("tag", "encoder", LabelledBatch),
    ("regress", "encoder", LabelledBatch),
    ("answer", "encoder", LabelledBatch),
    ("embed", "encoder", TextPairBatch),
    ("translate", "encoder-decoder", PairBatch),
]


def rows(task: str) -> list[dict[str, Any]]:
    """Sixty examples of a task, no two alike."""
    made: list[dict[str, Any]] = []
    for i in range(60):
        words = [str(word) for word in rng(i, "rows").choice(WORDS, 6)] + [str(i)]
        text, back = " ".join(words), " ".join(reversed(words))
        made.append(
            {
                "classify": {"text": text, "label": ("no", "yes")[i % 2]},
                "multi_label": {"text": text, "labels": ["even", "third"][i % 2 : 1 + (i % 3 == 0)]},
                "answer": {
                    "question": words[-1],
                    "context": text,
                    "answers": [words[i % 6]] if i % 5 else [],
                },
                "tag": {"words": words, "tags": ["odd" if len(word) % 2 else "even" for word in words]},
                "regress": {"text": text, "score": i / 60},
                "embed": {"text": text, "positive": back},
                "translate": {"source": text, "target": back},
            }[task]
        )
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A tokenizer, text for each family, and examples of each task."""
    folder = tmp_path_factory.mktemp("lessons")
    (folder / "text.txt").write_text("\n\n".join(sentences(i, 3) for i in range(40)))
    corpus = make_corpus(
        CorpusConfig(paths=(str(folder / "text.txt"),), max_document_chars=200, validation_fraction=0.2),
        folder / "corpus",
    )
    tokenizer = make_tokenizer(corpus, TokenizerConfig(vocab_size=330, n_sentinels=6), folder / "tokenizer")
    found: dict[str, Any] = {"tokenizer": tokenizer, "corpus": corpus}
    for family in ("decoder", "encoder", "encoder-decoder"):
        found[family] = make_shards(corpus, folder / "tokenizer", folder / family, family=family)
    for task, family, _ in TASKS:
        if not (folder / task).exists():
            (folder / f"{task}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(task)))
            config = ExamplesConfig(paths=(str(folder / f"{task}.jsonl"),), validation_fraction=0.2)
            make_examples(config, task, folder / task)
        found[task, family] = make_example_shards(
            folder / task, folder / "tokenizer", folder / f"{task}-{family}", family
        )
    return found


def task_of(
    made: dict[str, Any], name: str, family: str, training: Any = None, **changes: Any
) -> tuple[Any, TrainingTask]:
    """A new model and its task."""
    tokenizer: Tokenizer = made["tokenizer"]
    torch.manual_seed(0)
    model = build_model(config_for_size("50k", tokenizer.vocab_size, 32, family).config)
    is_task = (name, family) in made
    if is_task:
        splits = Splits.of_examples(made[name, family])
        labels = ("score",) if name == "regress" else splits.train.labels
        model = task_model(model, FinetuneConfig(task=name), labels)
    else:
        splits = Splits.of_text(made[family], family)
    length = {"batch_examples": 4} if is_task else {"batch_tokens": 4 * SEQ_LEN}
    kind, key = (FinetuneConfig, "task") if is_task else (PretrainConfig, "objective")
    training = training or kind.parse({key: name, "seq_len": SEQ_LEN, "max_steps": 2} | length | changes)
    plan = resolve_plan(training, default_hyperparameters(model.config), splits.train)
    return model, TaskBuilder(name, splits, model.config, tokenizer, task_settings(training)).build(plan)


@pytest.mark.parametrize(
    "config",
    [
        PretrainConfig(objective="masked", noise_rate=0.4, whole_word=True),
        DistillConfig(objective="masked", noise_rate=0.4, whole_word=True),
        PretrainConfig(objective="span_corruption", noise_rate=0.4, mean_span=5.0),
        FinetuneConfig(task="translate", label_smoothing=0.1),
        FinetuneConfig(task="embed", temperature=0.2),
    ],
    ids=lambda config: type(config).__name__,
)
def test_the_task_gets_every_setting_of_its_config(config):
    given = {
        name: getattr(config, name) for name in config.model_fields_set if name not in ("objective", "task")
    }
    assert asdict(task_settings(config)) == asdict(TaskSettings()) | given


@pytest.mark.parametrize(("name", "family", "kind"), PRETRAINING + TASKS)
def test_every_task_has_its_batches_and_a_held_out_loss(made, name, family, kind):
    model, task = task_of(made, name, family)
    batch = task.source.rows(0, 4)
    assert type(batch) is kind
    assert batch.n_counted > 0
    first, again = task.validate(model), task.validate(model)
    assert first == again
    assert np.isfinite(first["loss"])
    assert ("bits_per_byte" in first) == (name == "next_token")
    assert task.spec.name == name


def test_the_share_of_hidden_tokens_is_the_one_asked_for(made):
    for rate in (0.1, 0.5):
        _, task = task_of(made, "masked", "encoder", noise_rate=rate)
        batch = task.source.rows(0, 40)
        special = np.isin(batch.target_ids, sorted(made["tokenizer"].control_ids))
        real = (batch.document_ids >= 0) & ~special
        assert batch.loss_mask.sum() / real.sum() == pytest.approx(rate, abs=0.03)
    _, few = task_of(made, "span_corruption", "encoder-decoder", noise_rate=0.1)
    _, many = task_of(made, "span_corruption", "encoder-decoder", noise_rate=0.4)
    assert few.source.rows(0, 20).n_counted < many.source.rows(0, 20).n_counted


def test_the_held_out_tokens_hidden_are_the_same_for_every_seed_of_training(made):
    model, one = task_of(made, "masked", "encoder", seed=1)
    _, other = task_of(made, "masked", "encoder", seed=2)
    assert not np.array_equal(one.source.rows(0, 4).input_ids, other.source.rows(0, 4).input_ids)
    assert one.validate(model) == other.validate(model)


def test_smoothing_changes_what_is_trained_on_and_not_what_is_measured(made):
    from parakit.training.micro_batches import to_micro_batch

    model, plain = task_of(made, "translate", "encoder-decoder")
    _, smooth = task_of(made, "translate", "encoder-decoder", label_smoothing=0.2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        batch = to_micro_batch(plain.source.rows(0, 4), torch.device("cpu"))
        losses = [float(one.objective(model.eval(), batch)) for one in (plain, smooth)]
    assert losses[1] > losses[0] + 0.01
    assert smooth.validate(model) == plain.validate(model)


def test_a_held_out_loss_is_a_sum_over_examples_divided_by_their_number(made):
    """Against torch's own mean over the whole split at once."""
    model, task = task_of(made, "classify", "encoder")
    source = task.source
    held_out = type(source)(Splits.of_examples(made["classify", "encoder"]).validation, SEQ_LEN, 0)
    _, batch = next(held_out.one_pass(1000))
    with torch.no_grad():
        scores = model.eval()(
            torch.from_numpy(batch.input_ids), attention_mask=torch.from_numpy(batch.attention_mask)
        )
    expected = torch.nn.functional.cross_entropy(scores, torch.from_numpy(batch.labels))
    assert task.validate(model)["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_tokens_framed_for_another_family_are_refused_with_the_way_out(made):
    with pytest.raises(UserError, match="special tokens of the family 'decoder'") as error:
        Splits.of_text(made["decoder"], "encoder")
    assert "--family encoder" in error.value.hint


def test_a_tokenizer_can_be_made_of_examples(made, tmp_path: Path):
    rows_path = tmp_path / "rows.jsonl"
    rows_path.write_text("".join(json.dumps(row) + "\n" for row in rows("translate")))
    folder = make_examples(ExamplesConfig(paths=(str(rows_path),)), "translate", tmp_path / "examples")
    tokenizer = make_tokenizer(folder, TokenizerConfig(vocab_size=320), tmp_path / "tokenizer")
    text = "the old bird sees a river"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode(text)) < len(text) / 2


def test_a_run_tells_how_evenly_its_experts_were_used(made, tmp_path):
    tokenizer = made["tokenizer"]
    shape = config_for_size("50k", tokenizer.vocab_size, 32, "decoder").config
    experts = {"n_experts": 4, "n_active_experts": 2, "d_expert": 16}
    model = build_model(type(shape)(**shape.model_dump() | experts))
    splits = Splits.of_text(made["decoder"], "decoder")
    training = PretrainConfig(seq_len=SEQ_LEN, max_steps=3, batch_tokens=4 * SEQ_LEN, validate_every=2)
    plan = resolve_plan(training, default_hyperparameters(model.config), splits.train)
    task = TaskBuilder("next_token", splits, model.config, tokenizer, task_settings(training)).build(plan)
    figures = train(TrainingSetup("experts", model, tokenizer, task, plan, tmp_path))
    told = [row for row in read_metrics(tmp_path / METRICS) if row["kind"] == "experts"]
    assert [row["step"] for row in told] == [2, 3]
    assert told[-1]["load"] == figures["expert_load"]
    for row in told:
        assert set(row["load"]) == {str(layer) for layer in range(shape.n_layers)}
        for shares in row["load"].values():
            assert len(shares) == 4
            assert sum(shares) == pytest.approx(1)


@pytest.mark.parametrize(("objective", "family"), [row[:2] for row in PRETRAINING[:4] if row[0] != "prefix"])
def test_token_vectors_begin_as_counts_or_wide_where_that_is_set(made, objective, family, tmp_path: Path):
    shards, deviation = made[family], {}
    for start in ("random", "wide", "cooccurrence"):
        training = PretrainConfig(
            objective=objective,
            seq_len=SEQ_LEN,
            max_steps=1,
            batch_tokens=4 * SEQ_LEN,
            embedding_learning_rate=1e-9,
            embedding_init=start,
            compile="off",
        )
        spec = ModelSpec(family, None, "50k", max_seq_len=32)
        job = PretrainJob(shards, shards.parent / "tokenizer", tmp_path / "work", training, spec)
        run_job(job, tmp_path / start)
        model, _ = load_model(tmp_path / start)
        seen = np.setdiff1d(
            Splits.of_text(shards, family).train.token_ids, sorted(made["tokenizer"].control_ids)
        )
        deviation[start] = float(model.trunk.token_embedding.weight.detach()[seen.astype(np.int64)].std())
    assert deviation["cooccurrence"] == pytest.approx(DEVIATION, rel=0.02)
    assert deviation["wide"] == pytest.approx(DEVIATION, rel=0.05)
    assert deviation["random"] == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize(("name", "family", "_"), [*PRETRAINING, TASKS[0]])
def test_models_of_text_write_samples_at_points_of_their_run(made, name, family, _):
    model, task = task_of(made, name, family)
    if (name, family) not in (("next_token", "decoder"), ("masked", "encoder")):
        assert task.sample is None
        return
    assert task.sample is not None
    random_state, state = torch.get_rng_state(), copy.deepcopy(model.state_dict())
    found = task.sample(model)
    held_out = [document.text for document in iter_corpus(made["corpus"], "validation")]
    for sample in found:
        first = sample["prompt"].removesuffix("[MASK]").strip()
        assert any(text.startswith(first) for text in held_out)
        assert sample["completion"]
    assert len(found) == 2
    assert found == task.sample(model)  # drawn from a stream of its own, and nothing of the run changes
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_a_run_logs_what_its_model_writes(made, tmp_path):
    model, task = task_of(made, "next_token", "decoder")
    training = PretrainConfig.parse(
        {"seq_len": SEQ_LEN, "max_steps": 3, "batch_tokens": 96, "validate_every": 1}
    )
    splits = Splits.of_text(made["decoder"], "decoder")
    plan = resolve_plan(training, default_hyperparameters(model.config), splits.train)
    figures = train(TrainingSetup("pretrain", model, made["tokenizer"], task, plan, tmp_path))
    assert [row["step"] for row in figures["samples_by_step"]] == [1, 2, 3]
    assert [row["tokens"] for row in figures["samples_by_step"]] == [96, 192, 288]
    assert all(len(row["samples"]) == 2 for row in figures["samples_by_step"])
