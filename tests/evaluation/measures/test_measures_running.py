"""Measures as tasks of an evaluation: the registry, the command, the system prompt, and what has no effect."""

from __future__ import annotations

import dataclasses
import json

import pytest

from parakit.cli.main import main
from parakit.common.errors import UserError
from parakit.evaluation.config import TaskConfig
from parakit.evaluation.measures.answers import as_prompt, generate_answers
from parakit.evaluation.measures.registry import MEASURES
from parakit.evaluation.results import read_result
from parakit.evaluation.tasks import run_tasks
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.text import generate


def test_every_measure_is_described_and_says_what_data_it_needs(given):
    for name, measure in MEASURES.items():
        assert name.isidentifier()
        assert measure.description
        if measure.needs_data:
            with pytest.raises(UserError, match=f"{name} reads .* from a folder of data"):
                measure.run(dataclasses.replace(given, data=None))


def test_the_command_writes_results_and_items_of_measures(model_folder, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["evaluate", str(model_folder), "--tasks", "bias,minimal_pairs", "--limit", "10", "--seed", "1"]
    assert main([*command, "--output", str(out), "--device", "cpu"]) == 0
    results = json.loads((out / "results.json").read_text())
    assert set(results["benchmarks"]) == {"bias", "minimal_pairs"}
    for name in results["benchmarks"]:
        result = read_result(out, name, results)
        assert result.n == len(result.items) == 10
        assert result.protocol.program == "parakit 1"
    assert "bias" in capsys.readouterr().out  # a longer name is wrapped in a narrow table


def test_what_has_no_effect_on_measures_is_refused(model, tokenizer, tmp_path):
    with pytest.raises(UserError, match="n_shots = 2 has no effect: bias"):
        run_tasks(model, tokenizer, tmp_path, TaskConfig(tasks=("bias",), n_shots=2), chat=False)


def test_a_system_prompt_stands_before_every_prompt(given):
    config = SamplingConfig(temperature=0.0, max_new_tokens=4)
    for chat in (False, True):
        kind = dataclasses.replace(given, chat=chat, system_prompt="Be kind.")
        prompt = as_prompt(kind, "Where does Tom work?")
        expected = generate(given.model, given.tokenizer, prompt, config).text
        assert generate_answers(kind, ["Where does Tom work?"], config).first == [expected]
        assert "Be kind." in str(prompt)
