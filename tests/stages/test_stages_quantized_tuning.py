"""Tuning with quantized weights: LoRA on a quantized base, training under rounding, and what is refused."""

import pytest
import torch

import parakit
from parakit.checkpoints import load_model, save_model
from parakit.common import Lineage
from parakit.common.errors import UserError
from parakit.compression.merging import merge_adapter_folder
from parakit.model.adapters import is_adapted
from parakit.model.quantized import QuantScheme, is_quantized, make_plan, quantize_modules, quantized_modules
from parakit.training.doctor.batch_views import outputs_differ

SHORT = {"max_tokens": 512, "batch_tokens": 256, "before_after": "losses", "compile": "off"}


@pytest.fixture(scope="module")
def folders(primer_build):
    """The folders of a tiny build: its chat model, and its conversations."""
    work = primer_build[0]
    return next(work.glob("*/finetune")), next(iter(work.glob("*/conversations")))


@pytest.fixture(scope="module")
def int4(folders, tmp_path_factory):
    model, tokenizer = load_model(folders[0])
    int4, int8 = QuantScheme(bits=4, quant_group_size=32), QuantScheme(bits=8)
    plan = make_plan(model, int4, embeddings=int4)
    plan = {
        n: s if s.fault(model.get_parameter(f"{n}.weight").shape) is None else int8 for n, s in plan.items()
    }
    quantize_modules(model, plan)
    return save_model(model, tokenizer, tmp_path_factory.mktemp("quantized") / "int4", Lineage("model"))


def test_an_adapter_is_tuned_on_int4_weights_saved_loaded_and_merged(int4, folders, tmp_path):
    out = tmp_path / "adapter"
    figures = parakit.finetune(int4, out=out, conversations=[folders[1]], method="lora", rank=2, **SHORT)
    assert figures["steps"] >= 1
    model, _ = load_model(out)
    assert is_adapted(model)
    assert is_quantized(model)
    merge_adapter_folder(out, tmp_path / "merged")
    merged, _ = load_model(tmp_path / "merged")
    assert not is_quantized(merged)
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(merged(ids), model(ids), rtol=1e-2, atol=1e-2)


def test_training_under_rounding_writes_a_quantized_model(folders, tmp_path):
    out = tmp_path / "aware"
    settings = {"method": "quantization_aware", "bits": 4, **SHORT}
    parakit.finetune(folders[0], out=out, conversations=[folders[1]], **settings)
    model, _ = load_model(out)
    assert {module.scheme.bits for module in quantized_modules(model).values()} >= {4}


@pytest.mark.parametrize("settings", [{}, {"method": "layers", "trained_layers": (-1,)}])
def test_training_the_weights_of_a_quantized_model_is_refused_with_the_way_out(
    settings, int4, folders, tmp_path
):
    with pytest.raises(UserError, match=r"quantized.*and cannot be trained") as refused:
        parakit.finetune(int4, out=tmp_path / "out", conversations=[folders[1]], **settings)
    assert "--method lora" in str(refused.value.hint)
    assert not (tmp_path / "out").exists()


def test_the_doctor_allows_for_the_rounding_of_quantized_products(int4, folders):
    """Products with int4 weights carry their inputs with 15 bits: after 30 layers outputs of another order differ by 2e-3."""
    plain, quantized = load_model(folders[0])[0], load_model(int4)[0]
    one = torch.linspace(-1, 1, 32)
    other = one + 3e-3 * one.std()
    assert outputs_differ(one, other, plain)
    assert not outputs_differ(one, other, quantized)
    assert outputs_differ(one, one + 0.1 * one.std(), quantized)
