"""The methods of merging against their papers' equations, written out value by value, and on folders of models."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from parakit.checkpoints import load_model, save_model
from parakit.cli.main import main
from parakit.common.artifacts import Lineage
from parakit.common.errors import UserError
from parakit.compression.merging import merge_checkpoints, merge_models, merge_tensors
from parakit.compression.merging.config import (
    DareMerge,
    LinearMerge,
    SlerpMerge,
    TaskArithmeticMerge,
    TiesMerge,
)
from tests.alignment.tiny_chat_model import tiny_chat_model


def tensors(n: int, *shape: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(n)]


def test_slerp_is_shoemakes() -> None:
    """Equal steps of angle on the unit circle; between lengths, the same combination of both."""
    x, y = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    for t in (0.0, 0.25, 0.5, 1.0):
        found = merge_tensors(SlerpMerge(t=t), "w", [x, y], None)
        expected = torch.tensor([math.cos(t * math.pi / 2), math.sin(t * math.pi / 2)], dtype=torch.float64)
        torch.testing.assert_close(found, expected)
    a, b = tensors(2, 3, 4)
    angle = math.acos(float((a * b).sum() / (a.norm() * b.norm())))
    expected = (math.sin(0.7 * angle) * a + math.sin(0.3 * angle) * b) / math.sin(angle)
    torch.testing.assert_close(merge_tensors(SlerpMerge(t=0.3), "w", [a, b], None), expected)
    for other in (2 * a, -a, torch.zeros_like(a)):  # no arc: the mean
        torch.testing.assert_close(merge_tensors(SlerpMerge(), "w", [a, other], None), (a + other) / 2)


def test_linear_and_task_arithmetic_are_sums() -> None:
    base, a, b = tensors(3, 4, 5)
    found = merge_tensors(LinearMerge(weights=(1.0, 3.0)), "w", [a, b], None)
    torch.testing.assert_close(found, 0.25 * a + 0.75 * b)
    method = TaskArithmeticMerge(weights=(0.5, -1.0), scale=0.8)
    expected = base + 0.8 * (0.5 * (a - base) - (b - base))
    torch.testing.assert_close(merge_tensors(method, "w", [a, b], base), expected)


def ties_by_hand(vectors: list[list[float]], weights: list[float], density: float) -> list[float]:
    """Algorithm 1 of Yadav et al.: trim, elect, disjoint mean."""
    trimmed = []
    for vector in vectors:
        keep = sorted(range(len(vector)), key=lambda i: -abs(vector[i]))[: round(density * len(vector))]
        trimmed.append([value if i in keep else 0.0 for i, value in enumerate(vector)])
    merged = []
    for place in range(len(vectors[0])):
        values = [weight * vector[place] for weight, vector in zip(weights, trimmed, strict=True)]
        sign = math.copysign(1, sum(values)) if sum(values) else 0
        agreeing = [i for i, value in enumerate(values) if value * sign > 0]
        total = sum(values[i] for i in agreeing)
        merged.append(total / sum(weights[i] for i in agreeing) if agreeing else 0.0)
    return merged


@pytest.mark.parametrize("density", [0.25, 0.5, 1.0])
def test_ties_trims_elects_and_averages(density: float) -> None:
    base, *models = tensors(4, 20)
    weights = [1.0, 0.5, 2.0]
    method = TiesMerge(density=density, weights=tuple(weights), scale=0.7)
    expected = ties_by_hand([(m - base).tolist() for m in models], weights, density)
    found = merge_tensors(method, "w", models, base)
    torch.testing.assert_close(found, base + 0.7 * torch.tensor(expected, dtype=torch.float64))


def test_dare_drops_and_rescales() -> None:
    base = torch.zeros(200, 100)
    ones, twos = torch.ones(200, 100), 2 * torch.ones(200, 100)
    method = DareMerge(density=0.25, seed=3)
    found = merge_tensors(method, "w", [ones], base)
    assert set(found.unique().tolist()) == {0.0, 4.0}
    kept = float((found > 0).double().mean())
    assert abs(kept - 0.25) < 4 * (0.25 * 0.75 / found.numel()) ** 0.5
    assert torch.equal(found, merge_tensors(method, "w", [ones], base))
    for other in (DareMerge(density=0.25, seed=4), DareMerge(density=0.25, seed=3)):
        name = "w" if other.seed == 4 else "v"
        assert not torch.equal(found, merge_tensors(other, name, [ones], base))
    both = merge_tensors(method, "w", [ones, twos], base)  # each model drops places of its own
    assert set(both.unique().tolist()) == {0.0, 4.0, 8.0, 12.0}
    elected = DareMerge(density=0.25, seed=3, elect_signs=True)
    against = merge_tensors(elected, "w", [ones, -twos], base)
    assert set(against.unique().tolist()) == {-8.0, 0.0, 4.0}
    assert torch.equal(merge_tensors(DareMerge(density=1.0), "w", [ones, twos], base), (ones + twos).double())


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A base and two models tuned from it, with one tokenizer."""
    root, folders = tmp_path_factory.mktemp("merge"), []
    for i in range(3):
        model, tokenizer = tiny_chat_model()
        torch.manual_seed(i)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * (0.1 if i else 0))
        folders.append(save_model(model, tokenizer, root / f"m{i}", Lineage("model", {"chat": True})))
    return folders


def test_a_merge_by_command_records_method_and_losses(
    family: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, one, two = family
    command = ["merge", str(one), str(two), "--method", "ties", "--base", str(base), "--density", "0.5"]
    assert main([*command, "--weights", "1", "2", "--output", str(tmp_path / "out"), "--json"]) == 0
    printed = capsys.readouterr()
    losses = json.loads(printed.out)["general_loss"]
    assert len(losses["sources"]) == 2
    assert f"merge: loss on general text {losses['merged']:.3f}" in printed.err
    lineage = json.loads((tmp_path / "out" / "lineage.json").read_text())
    assert lineage["config"] == {
        "stage": "merge",
        "method": "ties",
        "density": 0.5,
        "weights": [1.0, 2.0],
        "scale": 1.0,
        "chat": True,
    }
    assert [parent["path"] for parent in lineage["parents"]] == [str(one), str(two), str(base)]
    assert lineage["result"]["general_loss"] == losses
    found, start, first, second = (
        dict(load_model(folder)[0].named_parameters()) for folder in (tmp_path / "out", base, one, two)
    )
    method = TiesMerge(density=0.5, weights=(1.0, 2.0))
    for name, merged in found.items():
        expected = merge_tensors(method, name, [first[name], second[name]], start[name])
        torch.testing.assert_close(merged.double(), expected, rtol=0, atol=1e-6)


def test_requests_that_do_not_fit_are_refused(family: list[Path], tmp_path: Path, capsys) -> None:
    base, one, two = family
    output = tmp_path / "out"
    for folders, method, start, message in (
        ([one, two], TiesMerge(), None, "no base is given"),
        ([one, two], SlerpMerge(), base, "has no base"),
        ([one, two, base], SlerpMerge(), None, "3 are given"),
        ([one, two], TaskArithmeticMerge(weights=(1.0,)), base, "1 weights for 2 models"),
    ):
        with pytest.raises(UserError, match=message):
            merge_models(folders, output, method, base=start)
    model, tokenizer = tiny_chat_model()
    from parakit.model import LanguageModel

    longer = LanguageModel(model.config.replace(vocab_size=model.config.vocab_size + 8))
    other = save_model(longer, tokenizer, tmp_path / "other", Lineage("model"))
    with pytest.raises(UserError, match=r"different shapes: trunk\.token_embedding\.weight is \(\d+, 16\)"):
        merge_models([one, other], output)
    for flags, message in (
        (["--density", "0.5"], "density"),
        (["--method", "slerp", "--t", "2"], "--t"),
        (
            ["--method", "ties", "--dtype", "float16", "--base", str(base)],
            "--dtype is not for merging models",
        ),
        (["--checkpoints", "last:2"], "the folder of one run"),
    ):
        assert main(["merge", str(one), str(two), "--output", str(output), *flags]) == 2
        assert message in capsys.readouterr().err
    assert not output.exists()


def test_the_last_checkpoints_of_a_run_become_their_mean(
    family: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for step, folder in zip((100, 20, 3), family, strict=True):
        (run / f"checkpoint-{step}").symlink_to(folder)
    command = ["merge", str(run), "--checkpoints", "last:2", "--output", str(tmp_path / "mean")]
    assert main(command) == 0
    assert "loss on general text" in capsys.readouterr().err
    found, one, two = (dict(load_model(f)[0].named_parameters()) for f in (tmp_path / "mean", *family[:2]))
    for name, merged in found.items():
        torch.testing.assert_close(merged, (one[name] + two[name]) / 2)
    assert json.loads((tmp_path / "mean" / "lineage.json").read_text())["config"]["steps"] == [20, 100]
    for which, message in (
        ("last:4", "has 3 checkpoints, and 4"),
        ("last:0", "no choice"),
        ("5", "no choice"),
    ):
        with pytest.raises(UserError, match=message):
            merge_checkpoints(run, tmp_path / "no", which)


def test_states_of_an_interrupted_run_become_a_model(family: list[Path], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from parakit.common.artifacts import writing_artifact
    from parakit.stages.run_dir import save_plan
    from tests.training.tiny_runs import tiny_plan

    models = [load_model(folder)[0] for folder in family]
    run = tmp_path / "run"
    run.mkdir()
    save_plan(run, models[0].config, tiny_plan())
    for step, model in enumerate(models, 1):
        with writing_artifact(run / f"step-{step:08d}", Lineage("train_state")) as inside:
            state = {name: p.detach() for name, p in model.named_parameters()}
            save_file(state, inside / "weights.safetensors")
    merge_checkpoints(run, tmp_path / "mean", "last:2", tokenizer=family[0])
    found, tokenizer = load_model(tmp_path / "mean")
    assert tokenizer is not None
    one, two = (dict(model.named_parameters()) for model in models[1:])
    for name, merged in found.named_parameters():
        torch.testing.assert_close(merged, (one[name] + two[name]) / 2)
