"""Adapter folders: what is written is what is loaded, on its own base and on no other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from parakit.checkpoints import load_model, read_config, read_head, save_model
from parakit.checkpoints.adapters import base_folder, load_adapter, save_adapter
from parakit.checkpoints.adapters.module_names import ModuleNames
from parakit.checkpoints.adapters.peft_config import lora_scale
from parakit.checkpoints.mapping import Head
from parakit.checkpoints.registry import architecture_for
from parakit.common.artifacts import Lineage
from parakit.common.errors import UserError
from parakit.model import Classifier, ClassifierConfig, EncoderConfig, LanguageModel, SequenceToSequence
from parakit.model.adapters import (
    AdapterSet,
    LoraConfig,
    PrefixConfig,
    PromptConfig,
    attach,
    make_lora,
    make_prefix,
    make_prompt,
)
from parakit.model.presets import config_for_size
from tests.short_suite import examples
from tests.training.tiny_runs import tiny_model

IDS = torch.tensor([[4, 9, 7, 22, 5, 1], [3, 3, 8, 30, 2, 6]])


def lively(seed: int = 0, **changes: Any) -> LanguageModel:
    model = tiny_model(seed, **changes).eval()
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    return model


def moved(model: nn.Module) -> None:
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.2)


def written(
    folder: Path, model: LanguageModel | None = None, kind: str = "lora", name: str = "adapter"
) -> Path:
    """A base and an adapter of it."""
    model = model or lively()
    base = folder / "base"
    if not base.exists():
        save_model(model, None, base, Lineage("model"))
    makers: dict[str, Any] = {
        "lora": lambda: make_lora(model, LoraConfig(rank=2)),
        "prompt": lambda: make_prompt(model, PromptConfig(n_prompt_tokens=3)),
        "prefix": lambda: make_prefix(model, PrefixConfig(n_prompt_tokens=3)),
    }
    adapter = makers[kind]()
    attach(model, adapter)
    moved(model)
    return save_adapter(model, adapter, base, folder / name, Lineage("adapter", parents=[base]))


@pytest.mark.parametrize("kind", ["lora", "prompt", "prefix"])
def test_an_adapters_folder_loads_its_base_with_the_adapter_attached(tmp_path, kind):
    model = lively()
    adapter = written(tmp_path, model, kind)
    loaded, _ = load_model(adapter)
    assert torch.equal(loaded(IDS), model(IDS))
    assert read_config(adapter).d_model == model.config.d_model
    assert read_head(adapter) == Head("language_model")
    with pytest.raises(UserError, match="merge it into its base"):
        save_model(loaded, None, tmp_path / "plain", Lineage("model"))


def test_base_and_adapter_can_be_moved_together_but_not_apart(tmp_path):
    model = lively()
    written(tmp_path / "here", model)
    shutil.move(tmp_path / "here", tmp_path / "there")
    loaded, _ = load_model(tmp_path / "there" / "adapter")
    assert torch.equal(loaded(IDS), model(IDS))
    assert base_folder(tmp_path / "there" / "adapter").resolve() == tmp_path / "there" / "base"
    shutil.move(tmp_path / "there" / "adapter", tmp_path / "alone")
    with pytest.raises(UserError, match="base_model_name_or_path"):
        load_model(tmp_path / "alone")


def test_two_adapters_of_one_base_are_used_in_turn(tmp_path):
    first, second = lively(), lively()
    one, two = written(tmp_path, first, "lora", "one"), written(tmp_path, second, "prefix", "two")
    model, _ = load_model(tmp_path / "base")
    adapters = AdapterSet(model)  # type: ignore[arg-type]
    for path in (one, two):
        adapters.add(path.name, load_adapter(path, model, tmp_path / "base"))
        adapters.use(path.name)
    assert torch.equal(model(IDS), second(IDS))
    adapters.use("one")
    assert torch.equal(model(IDS), first(IDS))


def test_an_adapter_for_another_base_is_refused_naming_both(tmp_path):
    adapter = written(tmp_path)
    other = save_model(lively(7), None, tmp_path / "other", Lineage("model"))
    with pytest.raises(UserError) as error:
        load_adapter(adapter, load_model(other)[0], other)
    assert "base" in str(error.value)
    assert "other" in str(error.value)
    shutil.rmtree(tmp_path / "base")
    shutil.copytree(other, tmp_path / "base")
    with pytest.raises(UserError, match="was tuned on"):
        load_model(adapter)


def test_without_lineage_names_and_shapes_are_checked(tmp_path):
    adapter = written(tmp_path)
    for name in ("lineage.json", "manifest.json"):
        (adapter / name).unlink()
    load_adapter(adapter, lively(5))
    for changes, message in (
        ({"d_model": 20}, "shape"),
        ({"n_layers": 1}, "has no such module"),
        ({"d_ff": 20}, "shape"),
    ):
        with pytest.raises(UserError, match=message):
            load_adapter(adapter, lively(**changes))


def test_a_base_without_lineage_is_known_by_its_weights(tmp_path):
    model = lively()
    save_model(model, None, tmp_path / "base", Lineage("model"))
    for name in ("lineage.json", "manifest.json"):
        (tmp_path / "base" / name).unlink()
    adapter = make_lora(model, LoraConfig(rank=2))
    attach(model, adapter)
    save_adapter(model, adapter, tmp_path / "base", tmp_path / "adapter", Lineage("adapter"))
    load_model(tmp_path / "adapter")
    save_model(lively(4), None, tmp_path / "another", Lineage("model"))
    shutil.copy(tmp_path / "another" / "model.safetensors", tmp_path / "base" / "model.safetensors")
    with pytest.raises(UserError, match="was tuned on"):
        load_model(tmp_path / "adapter")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("peft_type", "LOHA", "LOHA"),
        ("bias", "all", "bias"),
        ("init_lora_weights", "pissa_niter_4", "changes the base"),
        ("layer_replication", [[0, 1]], "layer_replication"),
        ("use_qalora", True, "use_qalora"),
        ("r", 5, "plans rank 5"),
        ("lora_alpha", "much", "lora_alpha"),
        ("base_model_name_or_path", None, "names no"),
        ("base_model_name_or_path", "org/name", "parakit import"),
    ],
)
def test_what_is_not_computed_is_named(tmp_path, key, value, message):
    adapter = written(tmp_path)
    for name in ("lineage.json", "manifest.json"):
        (adapter / name).unlink()
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(UserError) as error:
        load_model(adapter)
    assert message in str(error.value)


@pytest.mark.parametrize(("name", "message"), [("adapter_model.bin", "pickle"), ("code.py", "program code")])
def test_pickles_and_code_are_refused(tmp_path, name, message):
    adapter = written(tmp_path)
    (adapter / name).write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match=message):
        load_model(adapter)


def test_a_flipped_byte_is_noticed(tmp_path):
    adapter = written(tmp_path)
    path = adapter / "adapter_model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 1
    path.write_bytes(raw)
    with pytest.raises(UserError, match="sha256"):
        load_model(adapter)


def test_a_classifiers_new_head_is_part_of_the_adapter(tmp_path):
    shape = config_for_size("20k", 60, 16, "encoder", None).config
    assert isinstance(shape, EncoderConfig)
    from parakit.model import MaskedLanguageModel

    base = save_model(MaskedLanguageModel(shape), None, tmp_path / "base", Lineage("model"))
    trunk, _ = load_model(base)
    classes = ClassifierConfig(labels=("no", "yes"), pooling="mean")
    model = Classifier(shape, classes).eval()
    model.load_state_dict(
        {k: v for k, v in trunk.state_dict().items() if k.startswith("trunk.")}, strict=False
    )
    adapter = make_lora(model, LoraConfig(rank=2, fully_trained=("dense", "label_head")))
    attach(model, adapter)
    moved(model)
    saved = save_adapter(model, adapter, base, tmp_path / "adapter", Lineage("adapter", parents=[base]))
    assert read_head(saved).classes == classes
    loaded, _ = load_model(saved)
    assert torch.equal(loaded(IDS), model(IDS))


def test_an_encoder_decoders_matrices_have_adapters_too(tmp_path):
    shape = config_for_size("40k", 60, 16, "encoder-decoder", None).config
    model = SequenceToSequence(shape).eval()  # type: ignore[arg-type]
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    base = save_model(model, None, tmp_path / "base", Lineage("model"))
    adapter = make_lora(model, LoraConfig(rank=2))
    attach(model, adapter)
    moved(model)
    saved = save_adapter(model, adapter, base, tmp_path / "adapter", Lineage("adapter", parents=[base]))
    loaded, _ = load_model(saved)
    assert torch.equal(loaded(IDS, IDS), model(IDS, IDS))


def test_a_tied_table_of_two_stacks_has_no_module_there():
    shape = config_for_size("40k", 60, 16, "encoder-decoder", None).config
    head = Head("sequence_to_sequence")
    names = ModuleNames(architecture_for(shape, head), shape, head)
    if shape.tie_embeddings:
        with pytest.raises(UserError, match="lora_targets"):
            names.module_with("trunk.encoder.token_embedding")


@examples(60)
@given(
    st.integers(1, 64),
    st.floats(0.01, 100),
    st.booleans(),
    st.sampled_from(["q", "q_proj", "0.q_proj", "other"]),
)
def test_a_pattern_matches_the_modules_that_end_with_it(rank, alpha, stabilized, key):
    config = {"r": rank, "lora_alpha": 1, "use_rslora": stabilized, "alpha_pattern": {key: alpha}}
    found = lora_scale(config, "model.layers.0.q_proj", rank, Path("x"))
    wanted = alpha if key in ("q_proj", "0.q_proj") else 1
    assert found == pytest.approx(wanted / (rank**0.5 if stabilized else rank))
