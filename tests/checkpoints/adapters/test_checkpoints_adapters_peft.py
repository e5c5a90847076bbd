"""Adapters go to the peft library and come back: equal logits and gradients on tiny random models of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from parakit.checkpoints import load_model, save_model
from parakit.checkpoints.adapters import load_adapter, save_adapter
from parakit.common.artifacts import Lineage
from parakit.common.seeds import seed_everything
from parakit.model import DecoderConfig, LanguageModel
from parakit.model.adapters import (
    LoraConfig,
    PrefixConfig,
    PromptConfig,
    attach,
    detach,
    make_lora,
    make_prefix,
    make_prompt,
)
from parakit.model.adapters.creation import find_norms

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")  # of peft and transformers, whose they are

SIZES: dict[str, Any] = {
    "vocab_size": 37, "d_model": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 4, "d_ff": 24,
    "max_seq_len": 32,
}  # fmt: skip
GPT2: dict[str, Any] = {
    "n_kv_heads": 4, "d_ff": 64, "positions": "learned", "query_key_norm": False, "norm": "layer", "norm_bias": True,
    "norm_eps": 1e-5, "gated": False, "attention_bias": True, "attention_output_bias": True,
    "feed_forward_bias": True, "activation": "gelu_tanh",
}  # fmt: skip
NEOX: dict[str, Any] = GPT2 | {
    "positions": "rotary",
    "rotary_dim": 2,
    "parallel_residual": True,
    "activation": "gelu",
}
SHAPES: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "llama": {"query_key_norm": False, "tie_embeddings": False},
    "gpt2": GPT2,
    "gpt_neox": NEOX,
    "phi3": {},
}
LLAMA_MODULES = (["q_proj", "v_proj", "down_proj"], ["embed_tokens", "lm_head"], ["input_layernorm", "norm"])
MODULES = {
    "gpt2": (["c_attn", "c_fc"], ["wte", "lm_head"], ["ln_1", "ln_f"]),
    "phi3": (["qkv_proj", "gate_up_proj"], *LLAMA_MODULES[1:]),
    "gpt_neox": (
        ["query_key_value", "dense_h_to_4h"],
        ["embed_in", "lm_head"],
        ["input_layernorm", "final_layer_norm"],
    ),
}
FUSED = ("gpt2", "gpt_neox", "phi3")  # one factor there is three here
LORAS: dict[str, LoraConfig] = {
    "plain": LoraConfig(rank=2),
    "some": LoraConfig(rank=3, alpha=5, targets=("query", "value"), rank_stabilized=True),
    "tables": LoraConfig(rank=2, targets=("output", "token_embedding", "lm_head")),
    "rows": LoraConfig(rank=2, token_ids=(3, 8)),
    "dora": LoraConfig(rank=2, dora=True),
    "pissa": LoraConfig(rank=2, init="pissa"),
    "olora": LoraConfig(rank=2, init="olora", rank_stabilized=True),
    "norms": LoraConfig(rank=2, token_ids=(3, 8)),
}


def combinations(kinds: list[str]) -> list[Any]:
    """(shape, kind) as parameters; of the further joined shapes the kinds that join factors in `make test`."""
    slow = {
        (shape, kind)
        for shape in ("llama", *FUSED[1:])
        for kind in kinds
        if kind not in ("plain", "lora", "dora")
    }
    return [
        pytest.param(shape, kind, marks=[pytest.mark.long] if (shape, kind) in slow else [])
        for shape in SHAPES
        for kind in kinds
    ]


IDS = torch.tensor([[1, 5, 9, 2, 30, 7, 7, 36], [3, 3, 8, 21, 0, 11, 19, 4]])


def base_of(name: str, path: Path) -> tuple[LanguageModel, Path]:
    seed_everything(3)
    if name == "phi3":  # as a model of Parakit's own this shape is a Llama
        config = transformers.Phi3Config(
            **{"vocab_size": 37, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4},
            **{"num_key_value_heads": 2, "intermediate_size": 24, "max_position_embeddings": 32},
            **{"pad_token_id": None, "partial_rotary_factor": 0.5, "tie_word_embeddings": True},
            initializer_range=0.15,
        )
        transformers.Phi3ForCausalLM(config).save_pretrained(path / "published")
        model, _ = load_model(path / "published")
        assert isinstance(model, LanguageModel)
        return model, save_model(model, None, path / name, Lineage("model"))
    model = LanguageModel(DecoderConfig(**SIZES | SHAPES[name]))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    return model.eval(), save_model(model, None, path / name, Lineage("model"))


def moved(model: LanguageModel) -> None:
    """As if it had been trained."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            with torch.no_grad():
                parameter.add_(torch.randn_like(parameter) * (0.1 if name.endswith("magnitude") else 0.15))


def logits_of(model: Any) -> Tensor:
    with torch.no_grad():
        return (
            model(IDS)
            if isinstance(model, LanguageModel)
            else model(input_ids=IDS).logits[:, -IDS.shape[1] :]
        )


def peft_model(base: Path, adapter: Path) -> Any:
    plain = transformers.AutoModelForCausalLM.from_pretrained(base)
    return peft.PeftModel.from_pretrained(plain, adapter).eval()


@pytest.mark.parametrize(("shape", "kind"), combinations([*LORAS, "prompt", "prefix"]))
def test_peft_computes_the_same(tmp_path, shape, kind):
    model, base = base_of(shape, tmp_path)
    if kind in LORAS:
        norms = tuple(find_norms(model)) if kind == "norms" else ()
        adapter = make_lora(model, LORAS[kind].replace(fully_trained=norms))
    elif kind == "prompt":
        adapter = make_prompt(model, PromptConfig(n_prompt_tokens=3))
    else:
        adapter = make_prefix(model, PrefixConfig(n_prompt_tokens=3))
    attach(model, adapter)
    moved(model)
    actual = logits_of(model)
    saved = save_adapter(model, adapter, base, tmp_path / "adapter", Lineage("adapter", parents=[base]))
    detach(model)
    assert (actual - logits_of(model)).abs().max() > 0.1
    reference = peft_model(base, saved)
    assert (logits_of(reference) - actual).abs().max() < 1e-4
    back, _ = load_model(saved)
    assert (logits_of(back) - actual).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("shape", "kind"),
    combinations(["lora", "rslora", "dora", "tables", "rows", "norms", "prompt", "prefix"]),
)
def test_what_peft_wrote_is_loaded_and_has_its_gradients(tmp_path, shape, kind):
    model, base = base_of(shape, tmp_path)
    matrices, tables, norms = MODULES.get(shape, LLAMA_MODULES)
    rows = [3, 8] if model.config.tie_embeddings else {name: [3, 8] for name in tables}
    task: dict[str, Any] = {"task_type": "CAUSAL_LM"}
    transposed = {"fan_in_fan_out": shape == "gpt2" and kind != "tables"}
    settings = {
        "lora": lambda: peft.LoraConfig(r=2, lora_alpha=5, target_modules=matrices, **task, **transposed),
        "rslora": lambda: peft.LoraConfig(
            r=2, target_modules=matrices, rank_pattern={matrices[0]: 3}, use_rslora=True, **task, **transposed
        ),
        "dora": lambda: peft.LoraConfig(r=2, target_modules=matrices, use_dora=True, **task, **transposed),
        "tables": lambda: peft.LoraConfig(r=2, target_modules=tables, **task),
        "rows": lambda: peft.LoraConfig(
            r=2, target_modules=matrices, trainable_token_indices=rows, **task, **transposed
        ),
        "norms": lambda: peft.LoraConfig(
            r=2, target_modules=matrices, modules_to_save=norms, **task, **transposed
        ),
        "prompt": lambda: peft.PromptTuningConfig(num_virtual_tokens=3, **task),
        "prefix": lambda: peft.PrefixTuningConfig(num_virtual_tokens=3, **task),
    }
    reference = peft.get_peft_model(
        transformers.AutoModelForCausalLM.from_pretrained(base), settings[kind]()
    ).eval()
    for name, parameter in reference.named_parameters():
        if parameter.requires_grad:
            with torch.no_grad():
                parameter.add_(torch.randn_like(parameter) * (0.1 if "magnitude" in name else 0.3))
    reference.save_pretrained(tmp_path / "reference")
    adapter = load_adapter(tmp_path / "reference", model)
    attach(model, adapter)
    logits, reference_logits = model(IDS), reference(input_ids=IDS).logits[:, -IDS.shape[1] :]
    assert (logits - reference_logits).abs().max() < 1e-4
    logits.square().mean().backward()
    reference_logits.square().mean().backward()
    actual = sum(
        float(p.grad.double().square().sum()) for p in adapter.parameters().values() if p.grad is not None
    )
    other = sum(float(p.grad.double().square().sum()) for p in reference.parameters() if p.grad is not None)
    assert shape in FUSED or actual == pytest.approx(other, rel=1e-4)
    assert all(p.grad is None for name, p in model.named_parameters() if not p.requires_grad)


def test_a_split_rank_is_written_as_patterns(tmp_path):
    model, base = base_of("gpt2", tmp_path)
    adapter = make_lora(model, LoraConfig(rank=2, alpha=6, targets=("query", "value", "up")))
    saved = save_adapter(model, adapter, base, tmp_path / "adapter", Lineage("adapter", parents=[base]))
    written = json.loads((saved / "adapter_config.json").read_text())
    assert written["r"] in (2, 4)
    assert set(written["rank_pattern"].values()) | {written["r"]} == {2, 4}
    assert set(written["alpha_pattern"].values()) | {written["lora_alpha"]} == {6, 12}
