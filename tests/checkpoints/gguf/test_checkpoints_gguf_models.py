"""GGUF files of tiny models, named and permuted as llama.cpp's converter does: what is imported computes what
transformers computes from the original folder, with the same weights to the bit.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from gguf import MODEL_ARCH_NAMES, GGMLQuantizationType, GGUFWriter, quants

from parakit.checkpoints import load_model
from parakit.checkpoints.gguf.families import family_of
from parakit.checkpoints.gguf.metadata import ModelMetadata
from parakit.checkpoints.gguf.reader import GGUFFile, read_gguf
from parakit.checkpoints.gguf.rope import llama3_factors
from parakit.checkpoints.gguf.tensors import published_tensors
from parakit.checkpoints.gguf.tokenizer import convert_tokenizer
from parakit.checkpoints.import_export import import_model
from parakit.cli.main import main
from parakit.common import UserError, open_artifact
from parakit.common.files import sha256_file
from tests.checkpoints.conformance import assert_close, random_ids, tensors_of
from tests.checkpoints.gguf.gguf_cases import CASES, HEADS, LLAMA3, WIDTHS, make_case
from tests.checkpoints.gguf.gguf_files import rotary_fields, write_gguf

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_an_imported_file_computes_what_its_folder_computes(name: str, tmp_path: Path) -> None:
    architecture, _, _, fields = CASES[name]
    reference, tensors = make_case(name, tmp_path / "folder")
    file = write_gguf(
        tmp_path / "model.gguf",
        MODEL_ARCH_NAMES[architecture],
        lambda w: fields(w, reference.config),
        tensors,
    )
    output = import_model(str(file), tmp_path / "imported")
    before, after = tensors_of(tmp_path / "folder"), tensors_of(output)
    assert before.keys() == after.keys()
    for tensor_name, tensor in before.items():
        rounding = 1e-6 if "gemma" in name and "norm" in tensor_name else 0  # 1 was added and taken off
        assert (tensor - after[tensor_name]).abs().max() <= rounding, tensor_name
    (class_name,) = json.loads((output / "config.json").read_text())["architectures"]
    assert class_name == type(reference).__name__
    ids = random_ids(300, 2, 24)
    model, _ = load_model(output)
    assert_close(model(ids), reference(ids).logits)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_llama_3s_divisors_are_transformers(tmp_path: Path) -> None:
    """The tensor that the case above writes is the one that scales transformers' frequencies."""
    config = transformers.LlamaConfig(**WIDTHS, **HEADS, head_dim=32, rope_parameters=LLAMA3)
    scaled = transformers.LlamaModel(config).rotary_emb.inv_freq
    plain = 500_000.0 ** -(torch.arange(0, 32, 2) / 32)
    factors = torch.from_numpy(llama3_factors(500_000.0, 32, 8.0, 8192)).float()
    torch.testing.assert_close(scaled, plain / factors, rtol=1e-6, atol=0)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """The Llama case: model and tensors."""
    return make_case("llama", tmp_path_factory.mktemp("llama") / "folder")


def write_llama(path: Path, llama, kinds=None, **extra) -> Path:
    reference, tensors = llama

    def fields(writer: GGUFWriter) -> None:
        rotary_fields(writer, reference.config)
        for key, value in extra.items():
            writer.add_float32(key.replace("__", "."), value)

    return write_gguf(path, "llama", fields, tensors, kinds)


def test_a_quantized_file_holds_its_dequantized_weights(llama, tmp_path: Path, capsys) -> None:
    """Half a dozen kinds in one file; `--dtype`, lineage and the command's output."""
    names = ("ffn_up", "ffn_gate", "attn_v", "attn_output")
    kinds = {
        f"blk.0.{name}.weight": getattr(GGMLQuantizationType, kind)
        for name, kind in zip(names, ("Q8_0", "Q4_0", "Q4_1", "Q5_1"), strict=True)
    }
    kinds |= {"token_embd.weight": GGMLQuantizationType.BF16, "blk.1.ffn_up.weight": GGMLQuantizationType.F16}
    file = write_llama(tmp_path / "q.gguf", llama, kinds)
    assert main(["import", str(file), "--output", str(tmp_path / "out"), "--dtype", "bfloat16"]) == 0
    capsys.readouterr()
    exact = import_model(str(file), tmp_path / "exact")
    stored, short = tensors_of(exact), tensors_of(tmp_path / "out")
    weights = llama[1]["blk.0.ffn_up.weight"]
    expected = quants.dequantize(
        quants.quantize(weights, GGMLQuantizationType.Q8_0), GGMLQuantizationType.Q8_0
    )
    name = "model.layers.0.mlp.up_proj.weight"
    assert stored[name].numpy().tobytes() == expected.tobytes()
    assert torch.equal(short[name], stored[name].bfloat16())
    lineage = open_artifact(exact).lineage
    assert lineage["config"]["quantization"]["Q4_1"] == 1
    assert lineage["result"]["files"] == {"q.gguf": sha256_file(file)}
    assert lineage["result"]["about"]["architecture"] == "llama"


def test_an_unknown_setting_is_refused_and_accepted_by_name(llama, tmp_path: Path) -> None:
    file = write_llama(tmp_path / "odd.gguf", llama, llama__residual_boost=2.0)
    with pytest.raises(UserError, match=r"`llama\.residual_boost` = 2\.0") as refusal:
        import_model(str(file), tmp_path / "out")
    assert "--accept-config llama.residual_boost" in refusal.value.hint
    assert not (tmp_path / "out").exists()
    written = import_model(str(file), tmp_path / "out", accept_config=["llama.residual_boost"])
    assert open_artifact(written).lineage["config"]["accepted_config"] == {"llama.residual_boost": 2.0}
    with pytest.raises(UserError, match="no such unknown key"):
        import_model(str(file), tmp_path / "again", accept_config=["llama.block_count"])


def test_faults_of_models_are_named(llama, tmp_path: Path) -> None:
    reference, tensors = llama
    fields = lambda writer: rotary_fields(writer, reference.config)  # noqa: E731
    wrong = {
        "missing": ({n: w for n, w in tensors.items() if n != "blk.1.attn_v.weight"}, "llama", "v_proj"),
        "extra": (
            tensors | {"blk.0.attn_sinks.weight": tensors["output_norm.weight"]},
            "llama",
            "attn_sinks",
        ),
        "shape": (
            tensors | {"output_norm.weight": tensors["output_norm.weight"][:32]},
            "llama",
            "norm.weight",
        ),
        "other": (tensors, "mamba", "architecture 'mamba'"),
    }
    for name, (changed, architecture, message) in wrong.items():
        file = write_gguf(tmp_path / f"{name}.gguf", architecture, fields, changed)
        with pytest.raises(UserError, match=message) as refusal:
            import_model(str(file), tmp_path / "out")
        assert ".gguf-" not in str(refusal.value)  # no name of a temporary folder
        assert list(tmp_path.glob(".*")) == []
        assert not (tmp_path / "out").exists()


ODD_VALUES = [None, -1, 0, 3, 2**40, 1.5, float("nan"), "x", "", True, [], [1, 2], [1.5] * 320, ["a"] * 320]


def test_odd_metadata_raises_nothing_but_a_users_error(llama, tmp_path: Path) -> None:
    """Each key with each odd value, through settings, tokenizer and names of tensors."""
    file = read_gguf(write_llama(tmp_path / "model.gguf", llama))
    refused: dict[str, list[bool]] = {}
    for key in file.metadata:
        for value in ODD_VALUES:
            changed = {k: v for k, v in file.metadata.items() if k != key}
            changed |= {} if value is None else {key: value}
            try:
                one = GGUFFile(file.path, changed, file.tensors)
                architecture, family = family_of(one)
                metadata = ModelMetadata(one, architecture)
                config = family.settings(metadata)
                metadata.check_all_read()
                convert_tokenizer(one, 64)
                for _ in published_tensors(one, family, config):
                    pass
            except UserError as error:
                refused.setdefault(key, []).append(bool(error.hint))
    assert {"general.architecture", "llama.attention.head_count", "tokenizer.ggml.tokens"} <= refused.keys()
    assert all(all(hints) for hints in refused.values())


def test_divisors_that_no_scaling_gives_are_refused(llama, tmp_path: Path) -> None:
    reference, tensors = llama
    odd = tensors | {"rope_freqs.weight": tensors["output_norm.weight"][:8] + 1}
    file = write_gguf(tmp_path / "odd.gguf", "llama", lambda w: rotary_fields(w, reference.config), odd)
    with pytest.raises(UserError, match="not those of Llama 3's scaling"):
        import_model(str(file), tmp_path / "out")


def test_commands_that_want_a_folder_name_the_import(llama, tmp_path: Path, capsys) -> None:
    file = write_llama(tmp_path / "model.gguf", llama)
    for path in (file, tmp_path):
        assert main(["generate", str(path), "the bird"]) == 2
        assert f"parakit import {file} --output FOLDER" in capsys.readouterr().err
    assert read_gguf(file).tensors["token_embd.weight"].shape == (320, 64)
