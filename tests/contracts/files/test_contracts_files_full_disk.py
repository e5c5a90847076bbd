"""Every command that writes a folder, on a full disk: one message, nothing half-written, and it works when there is room.

The kernel refuses to let files grow beyond a limit, at which each file of the output fails in turn.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from parakit.checkpoints.adapters import save_adapter
from parakit.checkpoints.loading import load_model
from parakit.cli.main import main
from parakit.common.artifacts import Lineage
from parakit.common.errors import UserError
from parakit.common.files import disk_errors
from parakit.common.seeds import rng
from parakit.model.adapters import LoraConfig, attach, make_lora
from tests.alignment.tiny_chat_model import chat_model_folder
from tests.attacks.forked import forked
from tests.conftest import ROOT
from tests.short_suite import shortened

LIMITS = (0, 2_500)
MORE_LIMITS = (1, 90, 300, 900, 5_000, 12_000, 40_000)
COMMANDS = {
    "merge": ["merge", "model", "other"],
    "merge adapter": ["merge", "adapter"],
    "export": ["export", "model"],
    "import": ["import", "model"],
    "text": ["text", "texts"],
    "tokenizer train": ["tokenizer", "train", "texts", "--vocab-size", "300"],
    "tokenizer encode": ["tokenizer", "encode", "model", "chats"],
    "redteam": ["redteam", "model", "--suites", "direct", "--n-attacks", "2", "--max-new-tokens", "2"],
    "finetune": [
        *("finetune", "model", "--conversations", "chats.jsonl", "--max-steps", "2", "--save-every", "1"),
        *("--batch-tokens", "256", "--before-after", "none", "--compile", "off", "--device", "cpu"),
    ],
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, an adapter, texts and conversations."""
    folder = tmp_path_factory.mktemp("inputs")
    for seed, name in enumerate(("model", "other")):
        chat_model_folder(folder / name, seed=seed)
    model, _ = load_model(folder / "model")
    adapter = make_lora(model, LoraConfig(rank=2))
    attach(model, adapter)
    save_adapter(model, adapter, folder / "model", folder / "adapter", Lineage("adapter"))
    (folder / "texts").mkdir()
    words = [a + b for a in ("ba", "de", "ki", "lo", "mu") for b in ("ra", "ne", "si", "to")]
    for number in range(40):
        (folder / f"texts/{number}.txt").write_text(" ".join(rng(number, "text").choice(words, 80)))
    rows = [
        {"messages": [{"role": "user", "content": f"How {i}?"}, {"role": "assistant", "content": f"No {i}."}]}
        for i in range(40)
    ]
    (folder / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    chats = ["text", "--conversations", str(folder / "chats.jsonl"), "--output", str(folder / "chats")]
    assert main(chats) == 0
    return folder


@pytest.mark.parametrize("limits", [LIMITS, pytest.param(MORE_LIMITS, marks=pytest.mark.long)], ids=str)
@shortened("name", list(COMMANDS), ("merge", "export", "text", "tokenizer encode", "finetune"))
def test_a_full_disk_is_named_and_leaves_nothing(
    name: str, limits: tuple[int, ...], inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(inputs)
    before = sorted(inputs.iterdir())
    n_refused = 0
    for limit in limits:
        out = tmp_path / f"out-{limit}"
        command = [*COMMANDS[name], "--output", str(out)]
        outcome = forked(lambda command=command: main(command), max_file_bytes=limit)  # type: ignore[misc]
        assert not outcome.crashed, outcome.printed
        assert outcome.status in (0, 2), outcome.printed
        n_refused += outcome.status == 2
        if outcome.status == 2:
            assert out.name in outcome.printed
            assert "cannot be written: File too large\n  free some space" in outcome.printed
            left = {path.name for path in tmp_path.iterdir()}
            assert left <= {f".{out.name}.work"}, "only checkpoints are left"
            assert not list(tmp_path.rglob("*.partial"))
            assert not list(tmp_path.rglob("*.lock"))
            if limit == 0:
                assert forked(lambda command=command: main(command)).status == 0  # type: ignore[misc]
                assert {path.name for path in tmp_path.iterdir()} == {out.name}
        for path in tmp_path.iterdir():
            path.rename(inputs.parent / f"{name}-{path.name}")
    assert n_refused
    assert sorted(inputs.iterdir()) == before


def test_a_file_that_cannot_be_read_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    def read(path: Path) -> None:
        with disk_errors(tmp_path / "out"):
            path.read_bytes()

    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "loop", tmp_path / "folder"):
        with pytest.raises(UserError, match=rf"{path}: cannot be read") as caught:
            read(path)
        assert "out" not in caught.value.message.replace(str(tmp_path), "")


def test_arrays_and_tensors_are_written_in_one_place() -> None:
    """Whose errors on a full disk have no number: numpy's and safetensors' own writers."""
    writers = re.compile(r"\.tofile\(|\bsave_file\(|\b(?:np|numpy)\.save")
    found = {path.name for path in (ROOT / "src").rglob("*.py") if writers.search(path.read_text())}
    assert found == {"safetensors_io.py", "files.py"}
