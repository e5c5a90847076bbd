"""RoBERTa, XLM-R, DistilBERT and the like: every head's outputs and folders are those of transformers."""

import json

import pytest
import torch
from safetensors.torch import save_file

from parakit.checkpoints import load_model, parameter_counts, read_config, save_model
from parakit.common import Lineage, UserError
from parakit.model.config import FIXED_LABELS
from parakit.model.heads import Classifier, Embedder, MaskedLanguageModel
from parakit.model.layers.masks import document_mask
from parakit.stages.config import FinetuneConfig
from parakit.stages.task_models import task_model
from parakit.tokens.config import TokenizerConfig
from parakit.tokens.tokenizer.training import train_tokenizer
from tests.checkpoints.conformance import (
    assert_close,
    assert_round_trip,
    padding,
    random_ids,
    reference_model,
    saved,
    tensors_of,
)
from tests.checkpoints.encoder_cases import ENCODERS, HEADS, cases

transformers = pytest.importorskip("transformers")

NAMES = ("against", "for", "neither")
LABELS = {"id2label": dict(enumerate(NAMES)), "label2id": {name: i for i, name in enumerate(NAMES)}}


def tiny(name: str, variant: str, head: str, **changes):
    """A transformers model, tiny and random."""
    case = ENCODERS[name]
    labels = LABELS if head in ("classifier", "token_classifier") else {}
    settings = {**case.sizes, **labels, **case.variants[variant], **changes}
    config = getattr(transformers, f"{case.prefix}Config")(**settings)
    return reference_model(getattr(transformers, f"{case.prefix}{HEADS[head]}"), config)


def answers(output) -> torch.Tensor:
    """The outputs of a head, as Parakit's are shaped."""
    if "start_logits" in output:
        return torch.stack([output.start_logits, output.end_logits], -1)
    if "PreTraining" in type(output).__name__:
        return output.logits[..., None]
    return output.last_hidden_state if "last_hidden_state" in output else output.logits


@torch.no_grad()
def assert_encoder_conforms(model, reference, case, per_token: bool = True) -> None:
    """Plain, padded on either side, and three texts packed into one row."""
    config = reference.config
    ids = random_ids(config.vocab_size, 3, 24).clamp(min=4)
    assert_close(model(ids), answers(reference(ids)))
    for side in ("right", "left") if per_token else ("right",):
        mask = padding([24, 13, 1], side)
        padded = ids.masked_fill(~mask, config.pad_token_id)
        positions = (mask.cumsum(1) - 1).clamp(min=0) if case.positions_after_padding else None
        got = model(padded, attention_mask=mask, position_ids=positions)
        wanted = answers(reference(padded, attention_mask=mask.long()))
        assert_close(got[mask] if per_token else got, wanted[mask] if per_token else wanted)
        elsewhere = random_ids(config.vocab_size, 3, 24, seed=5).where(
            ~mask, padded
        )  # padding has no influence
        other = model(elsewhere, attention_mask=mask, position_ids=positions)
        assert torch.equal(other[mask] if per_token else other, got[mask] if per_token else got)
    if per_token and not getattr(config, "conv_kernel_size", 0):  # which mixes what is packed
        lengths = (11, 5, 8)
        documents = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))[None]
        position_ids = torch.cat([torch.arange(length) for length in lengths])[None]
        mask = document_mask(documents, causal=False)
        got = model(ids[:1], attention_mask=mask, position_ids=position_ids)[0]
        texts = ids[0].split(list(lengths))
        assert_close(got, torch.cat([answers(reference(text[None]))[0] for text in texts]))


def assert_embedder_round_trip(folder, target) -> None:
    """As `assert_round_trip`, for the bare trunk, with the pooler, which no head of Parakit's uses."""
    model, _ = load_model(folder)
    assert isinstance(model, Embedder)
    save_model(model, None, target, Lineage("model"))
    before, after = tensors_of(folder), tensors_of(target)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
    assert parameter_counts(folder)["total"] == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("name", "variant", "head"), cases())
def test_outputs_and_folders_are_those_of_transformers(tmp_path, name, variant, head):
    case = ENCODERS[name]
    reference = tiny(name, variant, head)
    folder = saved(reference, tmp_path / "f")
    model, tokenizer = load_model(folder)
    assert tokenizer is None
    per_token = head != "classifier"
    compared = model.trunk if head == "embedder" else model
    assert_encoder_conforms(compared, reference, case, per_token)
    ids = random_ids(reference.config.vocab_size, 2, 20).clamp(min=4)
    if head == "embedder":
        assert_embedder_round_trip(folder, tmp_path / "g")
    else:
        assert isinstance(model, MaskedLanguageModel if head == "masked_language_model" else Classifier)
        assert_round_trip(reference, folder, tmp_path / "g", lambda m: answers(m(ids)))
        if head == "masked_language_model":
            assert model.config.n_params()["total"] == sum(p.numel() for p in model.parameters())
        else:
            assert model.classes.labels == FIXED_LABELS.get(model.classes.level, NAMES)
    assert read_config(tmp_path / "g") == read_config(folder) == model.config


@pytest.mark.parametrize("name", ["roberta", "mpnet", "electra"])
def test_layers_without_gelu_fit_every_head_that_has_no_activation_of_the_layers(tmp_path, name):
    """The head of masked tokens, and ELECTRA's discriminator, share their activation with the layers in Parakit."""
    case, variant = ENCODERS[name], next(iter(ENCODERS[name].variants))
    for head in ("classifier", "embedder"):
        reference = tiny(name, variant, head, hidden_act="relu")
        folder = saved(reference, tmp_path / head)
        model, _ = load_model(folder)
        assert model.config.activation == "relu"
        assert_encoder_conforms(
            model.trunk if head == "embedder" else model, reference, case, head == "embedder"
        )
        ids = random_ids(reference.config.vocab_size, 2, 20).clamp(min=4)
        if head == "embedder":
            assert_embedder_round_trip(folder, tmp_path / "again")
        else:
            assert_round_trip(reference, folder, tmp_path / "g", lambda m, ids=ids: answers(m(ids)))
        tuned = task_model(model, FinetuneConfig(task="classify"), NAMES)
        save_model(tuned, None, tmp_path / f"tuned {head}", Lineage("model"))
        assert read_config(tmp_path / f"tuned {head}") == model.config
    config = json.loads((folder / "config.json").read_text())
    for head in {"masked_language_model", "discriminator"} & set(case.heads):
        named = {"architectures": [f"{case.prefix}{HEADS[head]}"]}
        (folder / "config.json").write_text(json.dumps(config | named))
        with pytest.raises(UserError, match="hidden_act"):
            read_config(folder)


def test_a_tokenizer_with_another_padding_token_moves_no_position(tmp_path):
    """The file's `pad_token_id` is where positions begin, so it stays RoBERTa's."""
    reference = tiny("roberta", "roberta-base", "masked_language_model", vocab_size=280)
    model, _ = load_model(saved(reference, tmp_path / "f"))
    settings = TokenizerConfig(kind="byte_bpe", vocab_size=280)
    tokenizer = train_tokenizer(["some text to train on"] * 9, settings)
    assert tokenizer.pad_id not in (None, 1)
    save_model(model, tokenizer, tmp_path / "g", Lineage("model"))
    again = type(reference).from_pretrained(tmp_path / "g").eval()
    ids = random_ids(280, 3, 24).clamp(min=4)
    with torch.no_grad():
        assert_close(model(ids), again(ids, attention_mask=torch.ones_like(ids)).logits)
    assert read_config(tmp_path / "g") == model.config


def test_nomic_bert_is_read_by_its_publishers_keys_too(tmp_path):
    """The same weights under the keys of nomic-embed-text-v1.5."""
    reference = tiny("nomic_bert", "nomic-embed-text-v1.5", "embedder")
    folder = saved(reference, tmp_path / "f")
    published = {
        **{"architectures": ["NomicBertModel"], "model_type": "nomic_bert", "activation_function": "swiglu"},
        **{
            "attn_pdrop": 0.0,
            "bos_token_id": None,
            "causal": False,
            "dense_seq_output": True,
            "embd_pdrop": 0.0,
        },
        **{
            "eos_token_id": None,
            "fused_bias_fc": True,
            "fused_dropout_add_ln": True,
            "initializer_range": 0.02,
        },
        **{
            "layer_norm_epsilon": 1e-12,
            "mlp_fc1_bias": False,
            "mlp_fc2_bias": False,
            "n_embd": 16,
            "n_head": 2,
        },
        **{"n_inner": 24, "n_layer": 2, "n_positions": 40, "pad_vocab_size_multiple": 64, "prenorm": False},
        **{
            "parallel_block": False,
            "qkv_proj_bias": False,
            "reorder_and_upcast_attn": False,
            "resid_pdrop": 0.0,
        },
        **{"rotary_emb_base": 1000, "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False},
        **{"rotary_emb_scale_base": None, "rotary_scaling_factor": None, "summary_type": "cls_index"},
        **{"scale_attn_by_inverse_layer_idx": False, "scale_attn_weights": True, "summary_activation": None},
        **{"summary_first_dropout": 0.0, "summary_proj_to_labels": True, "summary_use_proj": True},
        **{"torch_dtype": "float32", "type_vocab_size": 2, "use_cache": True, "use_flash_attn": True},
        **{"use_rms_norm": False, "use_xentropy": True, "vocab_size": 61, "max_trained_positions": 2048},
        **{"last_layer_subset": False},
    }
    (folder / "config.json").write_text(json.dumps(published))
    model, _ = load_model(folder)
    ids = random_ids(61, 3, 24)
    with torch.no_grad():
        assert_close(model.trunk(ids), reference(ids).last_hidden_state)
    (folder / "config.json").write_text(json.dumps(published | {"qkv_proj_bias": True}))
    with pytest.raises(UserError, match="qkv_proj_bias"):
        load_model(folder)


def test_the_head_of_deberta_v3s_own_files_is_read(tmp_path):
    """Microsoft's files name the head of masked tokens `lm_predictions`, and have a discriminator besides; transformers
    loads neither under these names unless it is told to.
    """
    reference = tiny("deberta-v2", "deberta-v3-base", "masked_language_model")
    folder = saved(reference, tmp_path / "f")
    tensors = tensors_of(folder)
    for name in list(tensors):
        if name.startswith("cls.predictions."):
            own = name.replace("cls.predictions.", "lm_predictions.lm_head.").replace("transform.", "")
            tensors[own] = tensors.pop(name)
    tensors |= {
        "mask_predictions.dense.weight": torch.zeros(16, 16),
        "mask_predictions.classifier.bias": torch.zeros(1),
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    model, _ = load_model(folder)
    save_model(model, None, tmp_path / "g", Lineage("model"))
    again = type(reference).from_pretrained(tmp_path / "g").eval()
    ids = random_ids(61, 3, 24)
    with torch.no_grad():
        assert_close(model(ids), reference(ids).logits)
        assert_close(again(ids).logits, reference(ids).logits)
