"""The page's plans are those of `parakit plan`, for every question."""

from __future__ import annotations

import json
import shlex

import pytest

from parakit.cli.main import main
from parakit.common.errors import UserError
from parakit.serving.studio.plans.requests import PlanRequest, answer, main_figures, remarks


@pytest.mark.parametrize(
    "request_",
    [
        PlanRequest("size", "125m", gpu="h100", tokens="1b"),
        PlanRequest("size", "10m", method="lora", gpu="a100-80gb", seq_len="128"),
        PlanRequest("time", "1h", gpu="h100", n_gpus=2),
        PlanRequest("budget", "50", gpu="h100", checkpointing=True),
    ],
    ids=lambda one: one.command(),
)
def test_a_plan_is_that_of_its_command(request_: PlanRequest, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(request_)
    assert main([*shlex.split(request_.command())[1:], "--json"]) == 0
    assert found.plan is not None
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(found.plan.to_json()))
    names = [name for name, _, _ in main_figures(found.plan)]
    assert names[:4] == ["Size", "Tokens", "Time", "Memory"]
    assert all(line.endswith(".") for line in remarks(found.plan))


def test_what_fits_into_a_memory_is_that_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    request = PlanRequest("memory", "8GiB", gpu="h100")
    rows = answer(request).rows
    assert main([*shlex.split(request.command())[1:], "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)["largest"]
    assert [(row.parameters, row.peak_bytes) for row in rows] == [
        (row["parameters"], row["peak"]) for row in expected
    ]


@pytest.mark.parametrize(("question", "amount"), [("time", "soon"), ("memory", "a lot"), ("size", "gpt-22")])
def test_what_is_no_amount_is_named(question: str, amount: str) -> None:
    with pytest.raises(UserError):
        answer(PlanRequest(question, amount, gpu="h100"))
