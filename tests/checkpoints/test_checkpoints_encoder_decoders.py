"""T5, BART and Marian: transformers' logits, greedy tokens and folders; and the 2017 Transformer, written as Marian."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from parakit.checkpoints import load_model, read_config, save_model
from parakit.checkpoints.mapping import Head
from parakit.checkpoints.registry import architecture_for
from parakit.common import CorruptArtifact, Lineage, UserError
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.seq_to_seq import generate_sequences
from parakit.model.config import DecoderConfig, EncoderConfig, EncoderDecoderConfig
from parakit.model.heads import Embedder, SequenceToSequence
from parakit.model.layers.positions import SinusoidalPositions
from tests.checkpoints.conformance import (
    assert_bf16_close,
    assert_close,
    assert_packed_pairs,
    assert_round_trip,
    cached_pair_logits,
    padding,
    random_ids,
    reference_model,
    saved,
    tensors_of,
)
from tests.short_suite import shortened

transformers = pytest.importorskip("transformers")

T5 = {
    **{"vocab_size": 97, "d_model": 32, "d_kv": 6, "d_ff": 48, "num_layers": 3, "num_decoder_layers": 2},
    **{"num_heads": 4, "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1},
    **{"relative_attention_num_buckets": 8, "relative_attention_max_distance": 12},
}
PAIR = {
    **{"vocab_size": 97, "d_model": 32, "max_position_embeddings": 80, "pad_token_id": 1},
    **{"encoder_layers": 3, "encoder_attention_heads": 4, "encoder_ffn_dim": 40, "bos_token_id": 0},
    **{"decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 56, "eos_token_id": 2},
    **{"decoder_start_token_id": 2, "forced_eos_token_id": None},
}
V1_1 = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "initializer_factor": 0.3}
# name -> transformers' class, its config's sizes, and what the tiny model has beyond them
CASES = {
    "t5": ("T5", T5, {}),
    "t5-buckets": ("T5", T5, {"relative_attention_num_buckets": 32, "relative_attention_max_distance": 18}),
    "t5-v1.1": ("T5", T5, V1_1),
    "t5-v1.1-tied": ("T5", T5, V1_1),
    "t5-gated-silu": ("T5", T5, {"feed_forward_proj": "gated-silu"}),
    "t5-gelu": ("T5", T5, {"feed_forward_proj": "gelu"}),
    "bart": ("Bart", PAIR, {}),
    "bart-scaled": ("Bart", PAIR, {"scale_embedding": True, "activation_function": "relu"}),
    "marian": ("Marian", PAIR, {"scale_embedding": True, "activation_function": "swish"}),
    "marian-relu": ("Marian", PAIR, {"activation_function": "relu", "decoder_start_token_id": 1}),
}
_MARIAN = {"scale_embedding": True, "activation_function": "swish"}
# the same for more published checkpoints, in `make test-long`
MORE_CASES = {
    "bart-large": ("Bart", PAIR, {"encoder_layers": 4, "decoder_layers": 4}),
    "distilbart": ("Bart", PAIR, {"decoder_layers": 1}),
    "bart-heads": ("Bart", PAIR, {"encoder_attention_heads": 2, "decoder_attention_heads": 8}),
    "barthez": ("Bart", PAIR, {"scale_embedding": True}),
    "kobart": ("Bart", PAIR, {"encoder_ffn_dim": 24, "decoder_ffn_dim": 24}),
    "bart-tanh-gelu": ("Bart", PAIR, {"activation_function": "gelu_new"}),
    "bart-silu": ("Bart", PAIR, {"activation_function": "silu"}),
    "bart-longer": ("Bart", PAIR, {"max_position_embeddings": 160, "encoder_layers": 1}),
    "opus-mt-tiny": ("Marian", PAIR, _MARIAN | {"encoder_layers": 1, "decoder_layers": 1}),
    "opus-mt-big": ("Marian", PAIR, _MARIAN | {"encoder_ffn_dim": 96, "decoder_ffn_dim": 96}),
    "opus-mt-tc": ("Marian", PAIR, _MARIAN | {"activation_function": "relu", "max_position_embeddings": 160}),
    "opus-mt-heads": ("Marian", PAIR, _MARIAN | {"encoder_attention_heads": 8}),
    "marian-gelu": ("Marian", PAIR, _MARIAN | {"activation_function": "gelu"}),
    "marian-unscaled": ("Marian", PAIR, _MARIAN | {"scale_embedding": False}),
    "marian-start": ("Marian", PAIR, _MARIAN | {"decoder_start_token_id": 1}),
    "marian-deep": ("Marian", PAIR, _MARIAN | {"decoder_layers": 4}),
}
CLASSES = {
    "T5": "T5ForConditionalGeneration",
    "Bart": "BartForConditionalGeneration",
    "Marian": "MarianMTModel",
}


def tiny(prefix: str, sizes: dict, changes: dict, case: str = ""):
    """A transformers model, tiny and random."""
    config = getattr(transformers, f"{prefix}Config")(**sizes | changes)
    model = reference_model(getattr(transformers, CLASSES[prefix]), config)
    with torch.no_grad():
        if prefix == "Marian":  # a computed table, which is no weight
            for side in (model.model.encoder, model.model.decoder):
                side.embed_positions.weight.copy_(side.embed_positions.create_weight())
        if case == "t5-v1.1":  # transformers 5 builds all T5 tied, and loads this one untied
            model.lm_head.weight = torch.nn.Parameter(
                0.3 * torch.randn(97, 32, generator=torch.Generator().manual_seed(4))
            )
    return model


@torch.no_grad()
def assert_pair_conforms(model, reference) -> None:
    """Logits: plain, source padded on either side and target on the right, packed, and through a cache."""
    sources, targets = random_ids(97, 3, 24), random_ids(97, 3, 20, seed=5)
    wanted = reference(input_ids=sources, decoder_input_ids=targets).logits
    assert_close(model(sources, targets), wanted)
    assert_close(cached_pair_logits(model, sources, targets, None), wanted)
    mine = padding([20, 9, 1], "right")
    for side in ("right", "left"):
        real = padding([24, 13, 1], side)
        got = model(sources, targets, source_mask=real, attention_mask=mine)
        wanted = reference(
            input_ids=sources,
            attention_mask=real.long(),
            decoder_input_ids=targets,
            decoder_attention_mask=mine.long(),
        ).logits
        assert_close(got[mine], wanted[mine])
        assert_close(cached_pair_logits(model, sources, targets, real)[mine], wanted[mine])
    assert_packed_pairs(model, reference, sources[:1], targets[:1], ((9, 7, 8), (5, 11, 4)))


@torch.no_grad()
def assert_same_greedy_tokens(model, reference, n_new: int = 64) -> None:
    """The same tokens as transformers' `generate`, sources of different lengths in one batch."""
    mask = padding([15, 8, 3], "right")
    sources = random_ids(97, 3, 15, seed=8).masked_fill(~mask, 1)
    rows = [row[real].tolist() for row, real in zip(sources, mask, strict=True)]
    got = generate_sequences(model, rows, SamplingConfig(temperature=0.0, max_new_tokens=n_new))
    reference.generation_config.eos_token_id = None
    wanted = reference.generate(
        sources, attention_mask=mask.long(), max_new_tokens=n_new, do_sample=False, num_beams=1
    )
    assert got == wanted[:, 1:].tolist()
    assert len(got[0]) == n_new


@shortened("case", [*CASES, *MORE_CASES], ("t5-v1.1-tied", "t5-gated-silu", "t5-buckets", "bart", "marian"))
def test_logits_tokens_and_folders_are_those_of_transformers(tmp_path, case):
    reference = tiny(*{**CASES, **MORE_CASES}[case], case)
    folder = saved(reference, tmp_path / "f")
    model, tokenizer = load_model(folder)
    assert tokenizer is None
    assert isinstance(model, SequenceToSequence)
    assert not model.training
    assert model.config.tie_embeddings == (case != "t5-v1.1")
    assert_pair_conforms(model, reference)
    assert_same_greedy_tokens(model, reference)
    ids = {"input_ids": random_ids(97, 2, 20), "decoder_input_ids": random_ids(97, 2, 9, seed=5)}
    assert_round_trip(reference, folder, tmp_path / "g", lambda m: m(**ids).logits)
    assert read_config(tmp_path / "g") == read_config(folder) == model.config


@pytest.mark.parametrize("case", ["t5", "t5-v1.1", "bart", "marian"])
def test_bfloat16_logits_are_near_those_of_transformers(tmp_path, case):
    reference = tiny(*CASES[case], case).to(torch.bfloat16)
    model, _ = load_model(saved(reference, tmp_path / "f"))
    exact, _ = load_model(tmp_path / "f", dtype="float32")
    sources, targets = random_ids(97, 3, 24), random_ids(97, 3, 20, seed=5)
    with torch.no_grad():
        wanted = reference(input_ids=sources, decoder_input_ids=targets).logits
        assert_bf16_close(model(sources, targets), wanted, exact(sources, targets))


def test_the_encoder_of_t5_alone_is_an_embedder(tmp_path):
    reference = reference_model(transformers.T5EncoderModel, transformers.T5Config(**T5))
    folder = saved(reference, tmp_path / "f")
    model, _ = load_model(folder)
    assert isinstance(model, Embedder)
    ids, mask = random_ids(97, 3, 24), padding([24, 13, 1], "left")
    with torch.no_grad():
        got, wanted = model.trunk(ids, attention_mask=mask), reference(ids, attention_mask=mask.long())
        assert_close(got[mask], wanted.last_hidden_state[mask])
    assert_round_trip(reference, folder, tmp_path / "g", lambda m: m(ids).last_hidden_state)


# what the published folders say besides sizes
PUBLISHED = {
    "t5-small": ("T5", {"n_positions": 512, "output_past": True, "task_specific_params": {}}, T5),
    "t5-v1_1-small": ("T5", {**V1_1, "output_past": True}, T5),
    "bart-large-cnn": (
        "Bart",
        {
            **{"_num_labels": 3, "add_bias_logits": False, "add_final_layer_norm": False},
            **{"classif_dropout": 0.0, "early_stopping": True, "force_bos_token_to_be_generated": True},
            **{"gradient_checkpointing": False, "normalize_before": False, "normalize_embedding": True},
            **{"extra_pos_embeddings": 2, "static_position_embeddings": False, "num_beams": 4},
        },
        PAIR,
    ),
    "opus-mt": (
        "Marian",
        {
            **{"add_bias_logits": False, "add_final_layer_norm": False, "bad_words_ids": [[96]]},
            **{"normalize_before": False, "normalize_embedding": False, "num_hidden_layers": 3},
            **{"static_position_embeddings": True, "extra_pos_embeddings": 98, "scale_embedding": True},
            **{"activation_function": "swish", "decoder_vocab_size": 97, "num_beams": 4},
        },
        PAIR,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_config_with_the_keys_of_a_published_folder_means_the_same(tmp_path, name):
    """transformers reads the very same file: old keys and leftovers."""
    prefix, keys, sizes = PUBLISHED[name]
    gated = {"feed_forward_proj": "gated-gelu"} if name == "t5-v1_1-small" else {}
    folder = saved(tiny(prefix, sizes, gated, "t5-v1.1" if gated else ""), tmp_path / "f")
    hf_config = {"architectures": [CLASSES[prefix]], "model_type": prefix.lower(), **sizes, **keys}
    (folder / "config.json").write_text(json.dumps(hf_config))
    reference = getattr(transformers, CLASSES[prefix]).from_pretrained(folder).eval()
    model, _ = load_model(folder)
    sources, targets = random_ids(97, 3, 24), random_ids(97, 3, 20, seed=5)
    with torch.no_grad():
        assert_close(model(sources, targets), reference(input_ids=sources, decoder_input_ids=targets).logits)
    assert model.config.tie_embeddings == (not gated)


def rewritten(folder, change) -> None:
    """`change(tensors)` done to the folder's file."""
    tensors = load_file(folder / "model.safetensors")
    save_file(change(dict(tensors)), folder / "model.safetensors", metadata={"format": "pt"})


def with_copies(tensors: dict, prefix: str, names: list[str]) -> dict:
    shared = tensors[f"{prefix}shared.weight"]
    return tensors | {name: shared.clone() for name in names}


@pytest.mark.parametrize("case", ["t5", "bart", "marian"])
def test_files_may_repeat_the_shared_embedding_and_carry_what_nothing_uses(tmp_path, case):
    reference = tiny(*CASES[case])
    folder = saved(reference, tmp_path / "f")
    prefix = "" if case == "t5" else "model."
    copies = [
        f"{prefix}encoder.embed_tokens.weight",
        f"{prefix}decoder.embed_tokens.weight",
        "lm_head.weight",
    ]
    unused = {
        "t5": {"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": torch.ones(8, 4)},
        "bart": {"encoder.version": torch.ones(1)},
        "marian": {"model.encoder.embed_positions.weight": SinusoidalPositions(80, 32).table},
    }[case]
    rewritten(folder, lambda tensors: with_copies(tensors, prefix, copies) | unused)
    model, _ = load_model(folder)
    sources, targets = random_ids(97, 3, 24), random_ids(97, 3, 20, seed=5)
    with torch.no_grad():
        assert_close(model(sources, targets), reference(input_ids=sources, decoder_input_ids=targets).logits)
    rewritten(folder, lambda tensors: tensors | {copies[0]: torch.zeros(97, 32)})
    with pytest.raises(CorruptArtifact, match=copies[0]):
        load_model(folder)


@pytest.mark.parametrize("prefix", ["Bart", "Marian"])
def test_a_folder_without_a_head_is_read_with_the_head_that_transformers_gives_it(tmp_path, prefix):
    """`facebook/bart-base` is a BartModel: the shared embedding is the output matrix, and no bias is stored."""
    whole = tiny(prefix, PAIR, {})
    folder = saved(whole.model, tmp_path / "f")
    assert "shared.weight" in tensors_of(folder)
    model, _ = load_model(folder)
    assert model.lm_head.bias is None
    reference = type(whole).from_pretrained(folder).eval()
    sources, targets = random_ids(97, 3, 24), random_ids(97, 3, 20, seed=5)
    with torch.no_grad():
        assert_close(model(sources, targets), reference(input_ids=sources, decoder_input_ids=targets).logits)
    save_model(model, None, tmp_path / "g", Lineage("model"))
    again, report = type(whole).from_pretrained(tmp_path / "g", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    with torch.no_grad():
        assert_close(
            model(sources, targets), again.eval()(input_ids=sources, decoder_input_ids=targets).logits
        )


def transformer_of_2017(lm_head_bias: bool, **changes) -> SequenceToSequence:
    """Vaswani et al. 2017, none of whose weights is at a special value."""
    side = {
        **{"vocab_size": 97, "d_model": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 4, "head_dim": 8},
        **{"d_ff": 64, "max_seq_len": 80, "positions": "sinusoidal", "embedding_scale": math.sqrt(32)},
        **{"norm": "layer", "norm_bias": True, "norm_eps": 1e-5, "post_norm": True, "embedding_norm": False},
        **{"final_norm": False, "activation": "relu", "gated": False, "feed_forward_bias": True},
        **{"attention_bias": True, "attention_output_bias": True, "head_transform": False, "dropout": 0.1},
        **changes,
    }
    decoder = DecoderConfig(**side, query_key_norm=False, lm_head_bias=lm_head_bias)
    config = EncoderDecoderConfig(encoder=EncoderConfig(**side), decoder=decoder, decoder_start_id=3)
    model = SequenceToSequence(config).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


@pytest.mark.parametrize("lm_head_bias", [True, False])
@pytest.mark.parametrize(
    "changes", [{}, {"embedding_scale": 1.0, "activation": "silu"}], ids=["paper", "silu"]
)
def test_transformers_computes_our_transformer_of_2017(tmp_path, lm_head_bias, changes):
    model = transformer_of_2017(lm_head_bias, **changes)
    save_model(model, None, tmp_path / "m", Lineage("model"))
    reference, report = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        tmp_path / "m", output_loading_info=True
    )
    assert type(reference).__name__ == "MarianMTModel"
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert reference.config.decoder_start_token_id == 3
    assert reference.config.dropout == 0.1
    assert_pair_conforms(model, reference.eval())
    loaded, _ = load_model(tmp_path / "m")
    assert loaded.config.decoder == model.config.decoder.replace(
        attention_dropout=loaded.config.decoder.attention_dropout
    )
    sources, targets = random_ids(97, 3, 24), random_ids(97, 3, 20, seed=5)
    with torch.no_grad():
        assert torch.equal(loaded(sources, targets), model(sources, targets))


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"norm_eps": 1e-6}, "norm_eps"), ({"tie_embeddings": False}, "tie_embeddings")],
)
def test_an_encoder_decoder_that_no_published_architecture_computes_names_the_incompatible_settings(
    changes, named
):
    model = transformer_of_2017(True, **changes)
    with pytest.raises(UserError, match=rf"marian comes closest.*decoder\.{named}"):
        architecture_for(model.config, Head("sequence_to_sequence"))
