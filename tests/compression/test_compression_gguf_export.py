"""`parakit export --format gguf`: a file is kept only if it computes what its source does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from parakit.checkpoints import load_model, save_model
from parakit.checkpoints.adapters import save_adapter
from parakit.checkpoints.gguf import export as gguf_export_module
from parakit.checkpoints.gguf.export import load_gguf
from parakit.checkpoints.gguf.reader import read_gguf
from parakit.checkpoints.import_export import import_model
from parakit.cli.main import main
from parakit.common import Lineage
from parakit.common.errors import UserError
from parakit.compression.gguf_export import export_gguf
from parakit.model.adapters import LoraConfig, attach, make_lora
from tests.alignment.tiny_chat_model import tiny_chat_model


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of the default shape, tuned to chat as its lineage says, with Parakit's own tokenizer."""
    model, tokenizer = tiny_chat_model()
    folder = tmp_path_factory.mktemp("gguf") / "chat"
    return save_model(model, tokenizer, folder, Lineage("model", {"chat": True}))


def test_an_export_is_compared_and_described(
    chat_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "m.gguf"
    assert (
        main(
            ["export", str(chat_model), "--format", "gguf", "--type", "F32", "--output", str(file), "--json"]
        )
        == 0
    )
    printed = capsys.readouterr()
    described = json.loads(printed.out)
    found = described["comparison"]
    assert found["n_equal"] == found["n_compared"] == 1000
    assert found["largest_difference"] < 1e-4
    assert found["n_conversations"] >= 6
    assert "top token equal on 1,000 of 1,000 positions" in printed.err
    metadata = read_gguf(file).metadata
    assert metadata["general.name"] == "chat"
    lineage = json.loads((chat_model / "lineage.json").read_text())
    assert metadata["parakit.lineage"] == lineage["digest"]
    assert "TEMPLATE" in Path(described["modelfile"]).read_text()
    imported = import_model(str(file), tmp_path / "imported")
    before, after = (load_model(folder)[0].state_dict() for folder in (chat_model, imported))
    assert all(torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(UserError, match="exists already"):
        export_gguf(chat_model, file)


@pytest.mark.parametrize("file_type", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_K_M"])
def test_every_type_is_read_again(chat_model: Path, tmp_path: Path, file_type) -> None:
    written = export_gguf(chat_model, tmp_path / "m.gguf", file_type)
    assert written.n_bytes == (tmp_path / "m.gguf").stat().st_size
    assert written.comparison.n_compared == 1000
    assert {p.name for p in tmp_path.iterdir()} == {"m.gguf", "m.Modelfile"}


def test_a_wrong_file_is_not_kept(chat_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults of a writer: rows in another order, a template that lost its space."""
    right = gguf_export_module.gguf_weights

    def swapped(*arguments):
        for name, weights in right(*arguments):
            yield name, weights[::-1] if name == "blk.1.attn_q.weight" else weights

    with monkeypatch.context() as patch:
        patch.setattr(gguf_export_module, "gguf_weights", swapped)
        with pytest.raises(UserError, match=r"blocks\.1\.attention\.query\.weight differs"):
            export_gguf(chat_model, tmp_path / "m.gguf", "F32")
    metadata = gguf_export_module.tokenizer_metadata

    def shortened(*arguments, **options):
        written = metadata(*arguments, **options)
        key = "tokenizer.chat_template"
        return written | {key: written[key].replace("' ' + ", "")}

    with monkeypatch.context() as patch:
        patch.setattr(gguf_export_module, "tokenizer_metadata", shortened)
        with pytest.raises(UserError, match="ids of a conversation"):
            export_gguf(chat_model, tmp_path / "m.gguf", "F32")
    assert list(tmp_path.iterdir()) == []


def test_what_is_lost_beyond_the_limit_must_be_accepted(
    chat_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from parakit.compression import gguf_check

    monkeypatch.setitem(gguf_check.MAX_KL, "Q4_0", 1e-9)
    with pytest.raises(UserError, match="nats a token") as refusal:
        export_gguf(chat_model, tmp_path / "m.gguf", "Q4_0")
    assert "--accept-loss" in refusal.value.hint
    assert export_gguf(chat_model, tmp_path / "m.gguf", "Q4_0", accept_loss=True).file.is_file()


def test_bad_requests_are_refused(chat_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for output, options, message in (
        ("folder", {}, "is one file"),
        ("m.gguf", {"file_type": "Q3_K"}, "'Q3_K' is no type"),
        ("m.gguf", {"base": tmp_path}, "is for an adapter"),
    ):
        with pytest.raises(UserError, match=message):
            export_gguf(chat_model, tmp_path / output, **options)
    import shutil

    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="1 MB are free"):
        export_gguf(chat_model, tmp_path / "m.gguf")
    assert list(tmp_path.iterdir()) == []


def test_flags_of_the_other_format_are_refused(chat_model: Path, tmp_path: Path, capsys) -> None:
    for flags, message in (
        (["--type", "F16"], "--type is for --format gguf"),
        (["--format", "gguf", "--dtype", "float16"], "--dtype is for --format folder"),
    ):
        assert main(["export", str(chat_model), "--output", str(tmp_path / "m.gguf"), *flags]) == 2
        assert message in capsys.readouterr().err


def test_the_last_line_names_file_size_and_modelfile(chat_model: Path, tmp_path: Path, capsys) -> None:
    file = tmp_path / "m.gguf"
    assert main(["export", str(chat_model), "--format", "gguf", "--output", str(file)]) == 0
    printed = capsys.readouterr().out
    assert printed == f"{file}: a GGUF file of {file.stat().st_size / 1e6:,.1f} MB (Q8_0), with m.Modelfile\n"


def test_an_adapter_is_merged_on_the_way(chat_model: Path, tmp_path: Path) -> None:
    model, _ = load_model(chat_model)
    adapter = make_lora(model, LoraConfig(rank=2))
    attach(model, adapter)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    folder = tmp_path / "adapter"
    save_adapter(model, adapter, chat_model, folder, Lineage("adapter", {"chat": True}, [chat_model]))
    written = export_gguf(folder, tmp_path / "m.gguf", "F32")
    assert written.comparison.n_equal == 1000
    read, _ = load_gguf(written.file)
    ids = torch.tensor([[4, 9, 7, 22, 5, 1]])
    with torch.no_grad():
        assert (read(ids) - model(ids)).abs().max() < 1e-4
        assert (read(ids) - load_model(chat_model)[0](ids)).abs().max() > 1e-2
