"""Every flag of every command acts, or is refused with what it would need."""

from __future__ import annotations

import importlib
import inspect
import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from parakit.alignment.config import AlignConfig
from parakit.cli import predict
from parakit.cli.main import VERBS, main, module_of
from parakit.cli.rendering.arguments import _hints, _is_positional, _outer_name, parse_arguments
from parakit.cli.rendering.conditions import refuse_inert
from parakit.common.choices import all_options, chosen_class
from parakit.common.errors import UserError
from parakit.common.settings import Config
from parakit.compression.config import DistillConfig
from parakit.compression.quantization.config import QuantizeConfig
from parakit.stages.config import FinetuneConfig, PretrainConfig
from parakit.tokens.config import TokenizerConfig
from tests.cli.assistant_flags_tried import ASSISTANT_INERT, ASSISTANT_OTHERS
from tests.cli.flags_tried import INERT, Inert
from tests.cli.flags_tried import OTHERS as OTHER_FLAGS

OTHERS = OTHER_FLAGS | ASSISTANT_OTHERS
BY_COMMAND: dict[str, list[Inert]] = defaultdict(list)
for each in (*INERT, *ASSISTANT_INERT):
    BY_COMMAND[each.command].append(each)
# Their settings belong to choices, which refuse those of another one, and their own flags are tried here.
TRAINING = {
    "pretrain": PretrainConfig,
    "finetune": FinetuneConfig,
    "align": AlignConfig,
    "distill": DistillConfig,
    "quantize": QuantizeConfig,
}


@pytest.fixture(scope="module")
def places(tiny_build: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the words of the table stand for."""
    root = tmp_path_factory.mktemp("flags")
    text = root / "text"
    text.mkdir()
    (text / "0.txt").write_text("The small bird sees the old tree.\n")
    turns = [{"role": "user", "content": "a bird"}, {"role": "assistant", "content": "the tree"}]
    rows = {
        "CHATS": {"messages": turns},
        "PAIRS": {"prompt": "a bird", "chosen": "the tree", "rejected": "a river"},
        "ATTACKS": {"id": "1", "question": "Say it.", "category": "direct"},
    }
    found = {"MODEL": str(tiny_build / "pretrain"), "SHARDS": str(tiny_build / "shards"), "TEXT": str(text)}
    for name, row in rows.items():
        path = root / f"{name.lower()}.jsonl"
        path.write_text("".join(json.dumps(row | {"n": i}) + "\n" for i in range(9)))
        found[name] = str(path)
    recipe = root / "recipe.yaml"
    recipe.write_text(f"text: {{paths: [{text}]}}\nsize: 40k\n")
    return found | {
        "RECIPE": str(recipe),
        "EVALUATION": str(tiny_build / "evaluate"),
        "OUT": str(root / "out"),
    }


@pytest.mark.parametrize("command", sorted(BY_COMMAND))
def test_a_flag_that_would_do_nothing_is_refused(command: str, places: dict[str, str], capsys, monkeypatch):
    monkeypatch.chdir(Path(places["TEXT"]).parent)
    failures = []
    for case in BY_COMMAND[command]:
        flag = [] if case.flag == "--set" else [case.flag]
        argv = [*command.split(), *(_place(word, places) for word in (*case.others, *flag, *case.value))]
        try:
            status: object = main(argv)
        except SystemExit as stopped:
            status = stopped.code
        printed, name = capsys.readouterr().err, case.flag.removeprefix("--")
        if (
            status != 2
            or "helptext" in printed
            or not any(form in printed for form in (name, name.replace("-", "_"), "set twice"))
        ):
            failures.append((argv, status, printed[-300:]))
    assert not failures, failures
    assert not Path(places["OUT"]).exists()


def _place(word: str, places: dict[str, str]) -> str:
    name, slash, rest = word.partition("/")
    return places.get(name, name) + slash + rest


def flags_of(command: str) -> set[str]:
    """The flags of a command's own settings, by their outer names."""
    verb, *inner = command.split()
    in_folder = verb == "inspect"  # whose verbs have a module each
    module = importlib.import_module(f"parakit.cli.inspecting.{inner[0]}" if in_folder else module_of(verb))
    wanted = f"{verb}{inner[0] if inner else ''}commandconfig"
    (config,) = (
        value
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and name.lower() in (wanted, f"{verb}config")
        and value.__module__ == module.__name__
    )
    hints = _hints(config)
    return {
        _outer_name(name, hint)
        for name, hint in hints.items()
        if not _is_positional(hint) and "Suppress" not in str(hint)
    }


@pytest.mark.parametrize("command", sorted(OTHERS))
def test_no_flag_is_left_untried(command: str):
    tried = {case.flag.removeprefix("--").replace("-", "_") for case in BY_COMMAND[command]} | OTHERS[command]
    assert flags_of(command) - tried == set()
    assert OTHERS[command] <= flags_of(command)


def test_every_command_is_in_a_table():
    assert {command.split()[0] for command in OTHERS} | set(TRAINING) == set(VERBS)


@pytest.mark.parametrize("settings", [*TRAINING.values(), TokenizerConfig], ids=lambda one: one.__name__)
def test_a_setting_of_a_choice_that_is_not_made_is_refused(settings: type[Config]):
    """Every option's field that the defaults do not choose: about a hundred flags."""
    chosen = chosen_class(settings, {})
    foreign = {name for _, option in all_options(settings) for name in option.model_fields} - set(
        chosen.model_fields
    )
    assert foreign
    for name in sorted(foreign):
        with pytest.raises(UserError, match=r"no effect|rules it out"):
            parse_arguments(Config, settings, [f"--{name.replace('_', '-')}", "1"], "parakit")


@pytest.mark.parametrize(
    ("capability", "flag", "others"),
    [
        ("classify", "n_beams", {}),
        ("classify", "max_new_tokens", {}),
        ("translate", "n_candidates", {}),
        ("translate", "length_penalty", {}),
        ("translate", "stop_when", {"n_beams": 1}),
        ("fill_mask", "stop_when", {"n_beams": 3}),
    ],
)
def test_what_a_kind_of_model_does_not_predict_with_is_refused(
    capability: str, flag: str, others: dict[str, Any]
):
    kind = SimpleNamespace(capabilities=(capability, "embed"), description=f"a model that can {capability}")
    values: dict[str, Any] = {"model": "m", flag: "full" if flag == "stop_when" else 2, **others}
    command = predict.PredictCommandConfig.parse(values)
    with pytest.raises(UserError, match="has no effect"):
        refuse_inert(command, predict._needs(SimpleNamespace(kind=kind, published={}), False))
    if flag in ("length_penalty", "stop_when") and capability == "translate" and not others:
        refuse_inert(command, predict._needs(SimpleNamespace(kind=kind, published={"n_beams": 4}), False))
