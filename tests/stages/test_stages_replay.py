"""Going on with a model and replaying earlier data: the loss and its gradient, an encoder, plans, and the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from parakit.checkpoints.loading import load_model
from parakit.common import UserError, open_artifact
from parakit.model import DecoderConfig, LanguageModel
from parakit.recipe import build, dry_run
from parakit.recipe.config import RecipeConfig
from parakit.stages.config import PretrainConfig
from parakit.stages.data import make_corpus, make_shards, make_tokenizer
from parakit.stages.data_config import CorpusConfig
from parakit.stages.job import run_job
from parakit.stages.plans import ModelSpec
from parakit.stages.pretraining import PretrainJob
from parakit.tokens.batches.replay import ReplaySource
from parakit.tokens.batches.source import BatchSource
from parakit.tokens.config import TokenizerConfig
from parakit.tokens.shard_parts import n_shared_documents
from parakit.tokens.shards import TokenShards
from parakit.training.loop import accumulate_gradients
from parakit.training.micro_batches import to_micro_batch
from parakit.training.objectives import next_token
from parakit.training.pace import TimeBudget
from parakit.training.precision import Precision
from tests.sample_text import sentences

TINY: dict[str, Any] = {"batch_tokens": 256, "seq_len": 32, "max_steps": 2, "device": "cpu", "compile": "off"}


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For a decoder and an encoder: a pre-trained model, its shards, and shards of other text."""
    root = tmp_path_factory.mktemp("life")
    found: dict[str, Path] = {"root": root, "tokenizer": root / "tokenizer"}
    for name, seed in (("old", 0), ("new", 500)):
        text = "\n\n".join(sentences(seed + i, 3) for i in range(40))
        (root / f"{name}.txt").write_text(text if name == "old" else text.replace("bird", "fish"))
        config = CorpusConfig(
            paths=(str(root / f"{name}.txt"),),
            max_document_chars=200,
            validation_fraction=0.2,
            test_fraction=0,
        )
        make_corpus(config, root / name)
    make_tokenizer(root / "old", TokenizerConfig(vocab_size=320), found["tokenizer"])
    for family in ("decoder", "encoder"):
        for name in ("old", "new"):
            shards = make_shards(root / name, found["tokenizer"], root / f"{name}-{family}", family=family)
            found[f"{name}-{family}"] = shards
        objective: Any = "next_token" if family == "decoder" else "masked"
        wanted = ModelSpec(family=family, size="40k", max_seq_len=32)
        job = PretrainJob(
            found[f"old-{family}"],
            found["tokenizer"],
            root / "work",
            PretrainConfig(objective=objective, **TINY),
            wanted,
        )
        run_job(job, root / family)
        found[family] = root / family
    return found


def gone_on(life: dict[str, Path], family: str, out: Path, **changes: Any) -> dict[str, Any]:
    settings = {"model": str(life[family]), "replay": str(life[f"old-{family}"])} | TINY | changes
    objective: Any = "next_token" if family == "decoder" else "masked"
    job = PretrainJob(
        life[f"new-{family}"], None, out / "work", PretrainConfig(objective=objective, **settings)
    )
    return run_job(job, out / "model")


def test_the_loss_of_mixed_rows_and_its_gradient_are_those_of_both_sides_in_float64() -> None:
    """Sum of both sides' losses over the number of tokens counted on both, whatever the micro-batches."""
    torch.manual_seed(0)
    model = LanguageModel(
        DecoderConfig(
            vocab_size=31, d_model=8, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4, d_ff=12, max_seq_len=12
        )
    ).double()
    sides = []
    for seed in (0, 1):
        generator = np.random.default_rng(seed)
        lengths = generator.integers(3, 20, 12)
        ids = generator.integers(3, 31, int(lengths.sum())).astype(np.uint16)
        mask = (generator.random(len(ids)) < 0.5).astype(np.uint8) if seed else None
        shards = TokenShards(ids, np.cumsum([0, *lengths]), mask, vocab_size=31, pad_id=0)
        sides.append(BatchSource(shards, 8, 3, "pack" if seed else "concat"))
    new, earlier = sides

    def by_hand(side: BatchSource, first: int, n: int) -> tuple[torch.Tensor, int]:
        """Each document of each row alone, every counted token's minus log softmax."""
        batch, total, n_counted = side.rows(first, n), torch.zeros((), dtype=torch.float64), 0
        for row in range(n):
            for document in set(batch.document_ids[row]) - {-1}:
                here = batch.document_ids[row] == document
                logits = model(torch.from_numpy(batch.input_ids[row, here])[None])[0]
                targets = torch.from_numpy(batch.target_ids[row, here])
                counted = torch.from_numpy(batch.loss_mask[row, here])
                nats = torch.logsumexp(logits, -1) - logits.gather(-1, targets[:, None])[:, 0]
                total = total + nats[counted].sum()
                n_counted += int(counted.sum())
        return total, n_counted

    parts = [by_hand(new, 3, 3), by_hand(earlier, 3, 3)]  # rows 6 to 11 at a half: 3 to 5 of either side
    wanted = sum(part[0] for part in parts) / sum(part[1] for part in parts)
    assert isinstance(wanted, torch.Tensor)
    wanted.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    source = ReplaySource(new, earlier, 0.5)
    for size in (6, 4, 1):
        model.zero_grad()
        batches = [
            to_micro_batch(source.rows(start, min(size, 12 - start)), torch.device("cpu"))
            for start in range(6, 12, size)
        ]
        n_counted = sum(batch.n_counted for batch in batches)
        precision = Precision("float32", torch.device("cpu"))
        loss = accumulate_gradients(model, batches, next_token, precision, n_counted)
        assert n_counted == sum(part[1] for part in parts)
        assert loss == pytest.approx(float(wanted.detach()), abs=1e-6)
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, gradients[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", ["decoder", "encoder"])
def test_a_model_of_either_family_goes_on_and_is_compared(life, tmp_path, family):
    found = gone_on(life, family, tmp_path, replay_share=0.5)
    assert found["forgetting"] == found["earlier_loss"] - found["before"]["earlier_loss"]
    before = open_artifact(life[family]).lineage["result"]["loss"]
    assert found["before"]["earlier_loss"] == pytest.approx(before, abs=1e-6)
    model, tokenizer = load_model(tmp_path / "model")
    assert type(model) is type(load_model(life[family])[0])
    assert tokenizer.digest == load_model(life[family])[1].digest


def test_an_encoder_decoder_does_not_replay_and_says_so(life, tmp_path):
    shards = make_shards(
        life["root"] / "old", life["tokenizer"], tmp_path / "shards", family="encoder-decoder"
    )
    wanted = ModelSpec(family="encoder-decoder", size="60k", max_seq_len=32)
    training = PretrainConfig(objective="prefix", **TINY)
    run_job(
        PretrainJob(shards, life["tokenizer"], tmp_path / "work", training, wanted),
        tmp_path / "base",
    )
    on = training.replace(model=str(tmp_path / "base"))
    figures = run_job(PretrainJob(shards, None, tmp_path / "work", on), tmp_path / "on")
    assert figures["before"]["loss"] > 0
    on = on.replace(replay=str(shards))
    with pytest.raises(UserError, match="replay is for text and conversations of decoders and encoders"):
        run_job(PretrainJob(shards, None, tmp_path / "work", on), tmp_path / "x")


def test_what_cannot_go_on_is_refused(life, tmp_path):
    with pytest.raises(UserError, match="special tokens of the family 'encoder'"):
        gone_on(life | {"new-decoder": life["new-encoder"]}, "decoder", tmp_path)
    with pytest.raises(UserError, match="special tokens of the family 'encoder'"):
        gone_on(life, "decoder", tmp_path, replay=str(life["old-encoder"]))
    with pytest.raises(UserError, match="holds a corpus"):
        gone_on(life, "decoder", tmp_path, replay=str(life["root"] / "old"))
    assert not list(tmp_path.glob("*"))


def test_a_pass_over_the_new_text_takes_more_steps_with_replay(life, tmp_path):
    steps = []
    for share in (0.0, 0.5):
        found = gone_on(life, "decoder", tmp_path / str(share), replay_share=share, max_steps=None, epochs=1)
        steps.append(found["steps"])
    assert steps[1] == pytest.approx(2 * steps[0], abs=1)


def test_a_time_says_how_long_a_model_goes_on(life, tmp_path):
    training = PretrainConfig(model=str(life["decoder"]), replay=str(life["old-decoder"]), **TINY)
    training = training.replace(max_steps=None)
    job = PretrainJob(life["new-decoder"], None, tmp_path / "work", training, budget=TimeBudget(0.2))
    found = run_job(job, tmp_path / "model")
    assert found["steps"] >= 1
    assert found["plan"]["max_steps"] == found["steps"]
    assert found["parameters"] == open_artifact(life["decoder"]).lineage["result"]["parameters"]


def test_documents_that_two_sets_share_are_counted() -> None:
    def shards(documents: list[list[int]]) -> TokenShards:
        return TokenShards(
            np.concatenate([np.array(one, np.uint16) for one in documents]),
            np.cumsum([0, *map(len, documents)]),
        )

    some, others = shards([[1, 2, 3], [4, 5], [1, 2]]), shards([[4, 5], [5, 4], [1, 2, 3, 4], [1, 2], [1, 2]])
    assert n_shared_documents(some, others) == 2
    assert n_shared_documents(others, some) == 3


# ---- the recipe


def recipe(life: dict[str, Path], **pretraining: Any) -> RecipeConfig:
    continue_pretraining = {
        "model": str(life["decoder"]),
        "replay": str(life["old-decoder"]),
        "replay_share": 0.5,
    }
    return RecipeConfig.parse(
        {
            "name": "adapted",
            "text": {"paths": [str(life["root"] / "new.txt")], "max_document_chars": 200, "test_fraction": 0},
            "pretrain": continue_pretraining | TINY | pretraining,
            "prompts": ["the bird"],
        }
    )


def test_a_recipe_goes_on_with_a_model_and_its_tokenizer(life, tmp_path):
    summary = build(recipe(life), tmp_path).to_dict()
    figures = summary["stages"]["pretrain"]
    assert figures["forgetting"] == figures["earlier_loss"] - figures["before"]["earlier_loss"]
    made = tmp_path / "adapted"
    assert load_model(made / "pretrain")[1].digest == load_model(life["decoder"])[1].digest
    assert "forgetting" in (made / "pretrain/README.md").read_text().lower()
    assert "earlier data" in (made / "report.html").read_text()
    assert not any(decision.run for decision in dry_run(recipe(life), tmp_path))
    changed = [d.stage.name for d in dry_run(recipe(life, replay_share=0.25), tmp_path) if d.run]
    assert changed == ["pretrain", "evaluate"]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"size": "1m"}, "size"),
        ({"max_seq_len": 64}, "max_seq_len"),
        ({"tokenizer": {"vocab_size": 400}}, "tokenizer"),
        ({"time": "10min"}, "time"),
    ],
)
def test_what_the_model_brings_itself_is_not_said_again(life, change, key):
    mapping = recipe(life).model_dump(exclude_unset=True, mode="json") | change
    with pytest.raises(UserError, match=f"`{key}` is set but has no effect"):
        RecipeConfig.parse(mapping)


def test_keys_of_replay_that_nothing_reads(life):
    keys = {"pretrain.replay": {"model": None}, "pretrain.replay_share": {"replay": None}}
    for key, change in keys.items():
        with pytest.raises(UserError, match=f"`{key}` is set but has no effect: it belongs to"):
            recipe(life, **change)


def test_a_model_of_another_family_or_none_at_all_is_refused_before_any_work(life, tmp_path):
    for change, told in (
        ({"model": str(life["encoder"])}, "of the family 'encoder'"),
        ({"model": str(tmp_path / "absent")}, "absent"),
        ({"replay": str(tmp_path / "absent")}, "absent"),
    ):
        with pytest.raises(UserError, match=told):
            build(recipe(life, **change), tmp_path / "builds")
    assert not (tmp_path / "builds").exists()
