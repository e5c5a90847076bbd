"""`parakit import` and `parakit export`: published models in, plain folders out, tensors byte for byte."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from parakit.checkpoints import load_model, read_head
from parakit.checkpoints.import_export import export_model, import_model
from parakit.cli.main import main
from parakit.common import UserError, open_artifact
from parakit.common.files import sha256_file
from parakit.tokens import Tokenizer

transformers = pytest.importorskip("transformers")
safetensors_torch = pytest.importorskip("safetensors.torch")

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "##s", "on", "mat"]
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


def bert(folder: Path) -> Path:
    config = transformers.BertConfig(
        vocab_size=16,
        max_position_embeddings=32,
        id2label={0: "bad", 1: "good"},
        label2id={"bad": 0, "good": 1},
        **SMALL,
    )
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    return folder


def mixtral(folder: Path) -> Path:
    config = transformers.MixtralConfig(
        vocab_size=300,
        num_key_value_heads=1,
        num_local_experts=4,
        max_position_embeddings=64,
        sliding_window=None,
        **SMALL,
    )
    transformers.MixtralForCausalLM(config).save_pretrained(folder)
    return folder


def t5(folder: Path) -> Path:
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
    config = transformers.T5Config(vocab_size=32, decoder_start_token_id=0, **sizes)
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


MAKERS: dict[str, Callable[[Path], Path]] = {"bert": bert, "mixtral": mixtral, "t5": t5}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small models of random weights as transformers writes them, one of each family."""
    torch.manual_seed(3)
    root = tmp_path_factory.mktemp("published")
    return {name: make(root / name) for name, make in MAKERS.items()}


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= safetensors_torch.load_file(file)
    return found


@pytest.mark.parametrize("name", MAKERS)
def test_in_and_out_again_keeps_every_tensor_and_transformers_loads_it(
    published: dict[str, Path], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, mine, out = published[name], tmp_path / "mine", tmp_path / "out"
    assert main(["import", str(source), "--output", str(mine)]) == 0
    assert main(["export", str(mine), "--output", str(out), "--max-shard-size", "10kB"]) == 0
    output = capsys.readouterr().out
    assert str(mine) in output
    assert "parameters" in output
    before, after = tensors(source), tensors(out)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert (out / "model.safetensors.index.json").is_file()
    assert not {"lineage.json", "manifest.json"} & {path.name for path in out.iterdir()}
    architecture = json.loads((out / "config.json").read_text())["architectures"][0]
    reference = getattr(transformers, architecture).from_pretrained(out)
    assert sum(p.numel() for p in reference.parameters()) == sum(
        p.numel() for p in load_model(mine)[0].parameters()
    )


def test_the_lineage_names_the_source_and_the_digest_of_every_file(
    published: dict[str, Path], tmp_path: Path
) -> None:
    import_model(str(published["bert"]), tmp_path / "mine", dtype="bfloat16")
    artifact = open_artifact(tmp_path / "mine", "model")
    assert artifact.lineage["config"]["source"] == str(published["bert"])
    assert artifact.lineage["config"]["architecture"] == "bert"
    files = artifact.lineage["result"]["files"]
    assert files["vocab.txt"] == sha256_file(published["bert"] / "vocab.txt")
    assert files.keys() == {"config.json", "model.safetensors", "vocab.txt"}
    model, tokenizer = load_model(tmp_path / "mine")
    assert next(model.parameters()).dtype == torch.bfloat16
    assert tokenizer is not None
    assert tokenizer.encode("the cats sat") == [5, 6, 8, 7]
    assert read_head(tmp_path / "mine").classes.labels == ("bad", "good")
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path / "mine")
    assert reference("the cat", "sat")["token_type_ids"] == [0, 0, 0, 0, 1, 1]


def test_an_imported_artifact_names_its_parent(published: dict[str, Path], tmp_path: Path) -> None:
    import_model(str(published["t5"]), tmp_path / "one")
    import_model(str(tmp_path / "one"), tmp_path / "two")
    one, two = (open_artifact(tmp_path / name, "model") for name in ("one", "two"))
    assert [parent["digest"] for parent in two.lineage["parents"]] == [one.digest]


def test_a_name_on_the_hub_is_fetched_and_its_links_become_files(
    published: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    commit = "c" * 40
    snapshot = tmp_path / "models--org--small" / "snapshots" / commit
    (snapshot.parent.parent / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for file in published["bert"].iterdir():
        blob = snapshot.parent.parent / "blobs" / sha256_file(file)
        blob.write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
    files = [SimpleNamespace(rfilename=path.name) for path in snapshot.iterdir()]
    monkeypatch.setattr(hub, "model_info", lambda name, **_: SimpleNamespace(sha=commit, siblings=files))
    monkeypatch.setattr(hub, "snapshot_download", lambda name, **_: str(snapshot))
    assert main(["import", "hub:org/small", "--output", str(tmp_path / "mine"), "--revision", "main"]) == 0
    lineage = open_artifact(tmp_path / "mine", "model").lineage
    assert (lineage["config"]["source"], lineage["config"]["revision"]) == ("hub:org/small", commit)
    assert not any(path.is_symlink() for path in (tmp_path / "mine").rglob("*"))
    assert Tokenizer.load(tmp_path / "mine").cls_id == 2


def test_a_name_is_fetched_by_import_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for argv in (
        ["show", "org/small"],
        ["generate", "org/small", "hi"],
        ["export", "org/small", "--output", "x"],
    ):
        assert main(argv) == 2
        assert "no such" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "output"),
    [
        (lambda f: (f / "modeling.py").write_text("print(1)"), "program code"),
        (lambda f: (f / "pytorch_model.bin").write_bytes(b"\x80"), "may be a pickle"),
        (lambda f: (f / "model.safetensors").unlink(), "no weights"),
        (lambda f: rewrite(f / "config.json", auto_map={"AutoModel": "x.Y"}), "auto_map"),
        (lambda f: rewrite(f / "config.json", hidden_act="swoosh"), "swoosh"),
        (lambda f: rewrite(f / "config.json", intermediate_size=25), "has shape"),
        (lambda f: rewrite(f / "config.json", num_hidden_layers=3), "lack the tensor"),
        (
            lambda f: (f / "vocab.txt").write_text("\n".join([*VOCABULARY, *map(str, range(20))])),
            "31 tokens.*16 rows",
        ),
    ],
)
def test_what_is_not_honoured_is_refused_and_leaves_nothing(
    published: dict[str, Path], change, output: str, tmp_path: Path, capsys
) -> None:
    import re
    import shutil

    source = shutil.copytree(published["bert"], tmp_path / "source")
    change(source)
    assert main(["import", str(source), "--output", str(tmp_path / "mine")]) == 2
    assert re.search(output, capsys.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def rewrite(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_nothing_that_exists_is_overwritten_unasked(published: dict[str, Path], tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    import_model(str(published["t5"]), mine)
    with pytest.raises(UserError, match="exists already"):
        import_model(str(published["t5"]), mine)
    assert import_model(str(published["t5"]), mine, overwrite=True) == mine
    for existing in (mine, published["t5"]):
        with pytest.raises(UserError, match="exists already"):
            export_model(mine, existing)
    with pytest.raises(UserError, match="is a folder"):
        import_model(str(mine), tmp_path / "other", revision="main")


def test_a_model_card_goes_along(published: dict[str, Path], tmp_path: Path) -> None:
    import_model(str(published["t5"]), tmp_path / "mine")
    (tmp_path / "mine/README.md").write_text("# card\n")
    for name in ("lineage.json", "manifest.json"):
        (tmp_path / "mine" / name).unlink()
    export_model(tmp_path / "mine", tmp_path / "out", dtype="float16")
    assert (tmp_path / "out/README.md").read_text() == "# card\n"
    assert {tensor.dtype for tensor in tensors(tmp_path / "out").values()} == {torch.float16}


def test_a_model_that_writes_no_text_is_not_asked_to(published: dict[str, Path], capsys) -> None:
    assert main(["generate", str(published["bert"]), "the cat"]) == 2
    output = capsys.readouterr().err
    assert "cannot continue a text" in output
    assert "classifier" in output


def test_a_publishers_way_of_sampling_comes_along_and_is_what_is_done_unless_said_otherwise(
    tiny_build, tmp_path, capsys
):
    """What nothing here reads is named; a value that cannot be is refused by its file."""
    home = export_model(tiny_build / "pretrain", tmp_path / "home")
    settings, seen = home / "generation_config.json", {"do_sample": True, "top_k": 3, "top_p": 0.9}
    more = seen | {"eta_cutoff": 0.5, "transformers_version": "4"}
    settings.write_text(json.dumps(json.loads(settings.read_text()) | more))
    assert main(["import", str(home), "--output", str(tmp_path / "model")]) == 0
    unknown = "generation_config.json has settings that Parakit keeps but does not use: eta_cutoff\n"
    assert unknown in capsys.readouterr().err
    away = export_model(tmp_path / "model", tmp_path / "away")
    for folder in (tmp_path / "model", away):
        written = json.loads((folder / "generation_config.json").read_text())
        assert seen.items() <= written.items()
        assert written["eta_cutoff"] == 0.5
    arguments = ["generate", str(away), "the bird", "--max-new-tokens", "2", "--device", "cpu"]
    assert main(arguments) == 0
    assert "published settings: temperature 1, top_k 3, top_p 0.9\n" in capsys.readouterr().err
    assert main([*arguments, "--temperature", "0.7", "--top-k=0"]) == 0
    assert "published settings: top_p 0.9\n" in capsys.readouterr().err
    settings = away / "generation_config.json"
    settings.write_text('{"do_sample": true, "top_p": 7}')
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert str(settings) in told
    assert "top_p" in told
    settings.write_text('{"do_sample": false, "temperature": 0.6}')
    assert main([*arguments, "--json"]) == 0
    assert "published settings: temperature 0\n" in capsys.readouterr().err
