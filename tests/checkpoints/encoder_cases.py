"""The encoders of `test_checkpoints_encoder_family.py`: transformers' class, its heads, and what varies between published
checkpoints, each shrunk to a tiny model. The first two variants of each are tested by `make test`, the others by
`make test-long`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

SIZES = {
    **{"vocab_size": 61, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"intermediate_size": 24, "max_position_embeddings": 40, "pad_token_id": 1},
}
HEADS = {
    "masked_language_model": "ForMaskedLM",
    "classifier": "ForSequenceClassification",
    "token_classifier": "ForTokenClassification",
    "question_answering": "ForQuestionAnswering",
    "embedder": "Model",
    "discriminator": "ForPreTraining",
}


@dataclass(frozen=True)
class EncoderCase:
    """An architecture's prefix in transformers, and its variants: published name -> what differs from `sizes`."""

    prefix: str
    variants: Mapping[str, Mapping[str, Any]]
    sizes: Mapping[str, Any] = field(default_factory=lambda: SIZES)
    heads: tuple[str, ...] = tuple(HEADS)[:-1]
    positions_after_padding: bool = False


_EPS, _ONE_TYPE = {"layer_norm_eps": 1e-5}, {"layer_norm_eps": 1e-5, "type_vocab_size": 1}
_ROBERTA_VARIANTS = {
    "roberta-base": {**_ONE_TYPE, "max_position_embeddings": 42},
    "two types, another padding id": {"type_vocab_size": 2, "pad_token_id": 0},
    "roberta-large": {**_ONE_TYPE, "num_hidden_layers": 3, "num_attention_heads": 4},
    "distilroberta-base": {**_ONE_TYPE, "num_hidden_layers": 1},
    "tinyroberta-squad2": {**_ONE_TYPE, "max_position_embeddings": 34, "classifier_dropout": None},
    "codebert-base": {**_ONE_TYPE, "vocab_size": 67},
    "twitter-roberta": {**_ONE_TYPE, "gradient_checkpointing": False, "hidden_dropout_prob": 0.0},
    "PhoBERT": {**_ONE_TYPE, "vocab_size": 71, "max_position_embeddings": 26},
    "stsb-roberta": {**_ONE_TYPE, "attention_probs_dropout_prob": 0.2, "intermediate_size": 32},
    "padding id 3": {**_ONE_TYPE, "pad_token_id": 3, "layer_norm_eps": 1e-3},
}
_XLMR_VARIANTS = {
    "xlm-roberta-base": {**_ONE_TYPE, "output_past": True},
    "bge-m3": {**_ONE_TYPE, "max_position_embeddings": 90, "num_hidden_layers": 3},
    "multilingual-e5-small": {"layer_norm_eps": 1e-12, "type_vocab_size": 1, "num_attention_heads": 4},
    "multilingual-e5-large": {**_ONE_TYPE, "num_hidden_layers": 3, "num_attention_heads": 4},
    "multilingual-e5-base": {**_ONE_TYPE, "vocab_size": 67},
    "bge-reranker-v2-m3": {**_ONE_TYPE, "max_position_embeddings": 80, "classifier_dropout": None},
    "jina-reranker": {**_ONE_TYPE, "num_hidden_layers": 1, "hidden_dropout_prob": 0.0},
    "gte-multilingual-shape": {**_EPS, "type_vocab_size": 2},
    "twitter-xlm-roberta": {**_ONE_TYPE, "vocab_size": 71},
    "padding id 3": {**_ONE_TYPE, "pad_token_id": 3},
}
_MPNET_VARIANTS = {
    "all-mpnet-base-v2": {**_EPS, "max_position_embeddings": 42},
    "mpnet-base": {"layer_norm_eps": 1e-12},
    "multi-qa-mpnet": {**_EPS, "vocab_size": 67},
    "paraphrase-mpnet": {**_EPS, "hidden_dropout_prob": 0.0},
    "more heads": {**_EPS, "num_attention_heads": 4},
    "one layer": {**_EPS, "num_hidden_layers": 1},
    "three layers": {**_EPS, "num_hidden_layers": 3},
    "setfit": {**_EPS, "attention_probs_dropout_prob": 0.2},
    "long": {**_EPS, "max_position_embeddings": 200},
    "wide": {**_EPS, "intermediate_size": 64},
}
_ELECTRA_VARIANTS = {
    "electra-small": {"embedding_size": 8, "summary_type": "first", "summary_use_proj": True},
    "electra-base": {"embedding_size": 16},
    "electra-large": {"embedding_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4},
    "electra-small-generator": {"embedding_size": 24, "num_attention_heads": 1},
    "koelectra": {"embedding_size": 8, "vocab_size": 67, "summary_last_dropout": 0.1},
    "electra-squad2": {"embedding_size": 16, "layer_norm_eps": 1e-5},
    "bio-electra": {"embedding_size": 8, "hidden_dropout_prob": 0.0},
    "electra-turkish": {"embedding_size": 16, "type_vocab_size": 1},
    "gelectra": {"embedding_size": 16, "type_vocab_size": 3},
    "longer": {"embedding_size": 8, "max_position_embeddings": 72},
}
_NOMIC_SIZES = {**SIZES, "pad_token_id": 0}
_NOMIC_VARIANTS = {
    "nomic-embed-text-v1.5": {},
    "GELU, another base": {
        "hidden_act": "gelu",
        "rope_parameters": {"rope_type": "default", "rope_theta": 90.0},
    },
    "nomic-embed-text-v1": {"vocab_size": 64, "max_position_embeddings": 64},
    "nomic-bert-2048": {"max_position_embeddings": 80},
    "more heads": {"num_attention_heads": 4},
    "heads of another width": {"head_dim": 4},
    "one layer": {"num_hidden_layers": 1},
    "epsilon": {"layer_norm_eps": 1e-5},
    "linear scaling": {"rope_parameters": {"rope_type": "linear", "rope_theta": 1000.0, "factor": 2.0}},
    "one type": {"type_vocab_size": 1, "intermediate_size": 40},
}
_DEBERTA_SIZES = {
    **SIZES,
    **{"pad_token_id": 0, "relative_attention": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm"},
    **{
        "share_att_key": True,
        "pos_att_type": "p2c|c2p",
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
    **{"max_relative_positions": -1, "pooler_hidden_act": "gelu", "pooler_dropout": 0},
}
_DEBERTA_VARIANTS = {
    "deberta-v3-base": {},
    "mdeberta-v3-base": {"vocab_size": 71, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v3-small": {"num_hidden_layers": 1},
    "deberta-v3-xsmall": {"num_attention_heads": 4},
    "deberta-v3-large": {"num_hidden_layers": 3, "num_attention_heads": 4},
    "more buckets": {"position_buckets": 32},
    "a longest distance": {"max_relative_positions": 18},
    "two types": {"type_vocab_size": 2},
    "nli-deberta": {"layer_norm_eps": 1e-5, "cls_dropout": 0.1},
    "deberta-v2-xlarge": {"conv_kernel_size": 3, "conv_act": "gelu", "position_buckets": 16},
    "deberta-v2-xxlarge": {"conv_kernel_size": 3, "conv_act": "gelu", "num_hidden_layers": 3},
    "one layer with a convolution": {"conv_kernel_size": 5, "num_hidden_layers": 1, "conv_groups": 2},
    "relu": {"hidden_act": "relu", "max_position_embeddings": 64},
}
_DISTIL_SIZES = {
    **{"vocab_size": 61, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
    **{"max_position_embeddings": 40, "pad_token_id": 0},
}
_DISTIL_VARIANTS = {
    "distilbert-base-uncased": {"tie_weights_": True, "seq_classif_dropout": 0.2},
    "ReLU": {"activation": "relu", "dropout": 0.0},
    "distilbert-base-cased": {"vocab_size": 67, "output_past": True},
    "distilbert-base-multilingual-cased": {"vocab_size": 71, "attention_dropout": 0.2},
    "distilbert-sst-2": {"dropout": 0.1, "qa_dropout": 0.1},
    "msmarco-distilbert": {"n_layers": 3, "n_heads": 4},
    "sines": {"sinusoidal_pos_embds": True},
    "tanh GELU": {"activation": "gelu_new"},
    "tiny": {"n_layers": 1, "hidden_dim": 32},
    "longer": {"max_position_embeddings": 72},
}

ENCODERS: dict[str, EncoderCase] = {
    "roberta": EncoderCase("Roberta", _ROBERTA_VARIANTS, positions_after_padding=True),
    "xlm-roberta": EncoderCase("XLMRoberta", _XLMR_VARIANTS, positions_after_padding=True),
    "distilbert": EncoderCase("DistilBert", _DISTIL_VARIANTS, sizes=_DISTIL_SIZES),
    "mpnet": EncoderCase("MPNet", _MPNET_VARIANTS, positions_after_padding=True),
    "electra": EncoderCase("Electra", _ELECTRA_VARIANTS, heads=tuple(HEADS)),
    "nomic_bert": EncoderCase(
        "NomicBert",
        _NOMIC_VARIANTS,
        sizes=_NOMIC_SIZES,
        heads=("masked_language_model", "classifier", "token_classifier", "embedder"),
    ),
    "deberta-v2": EncoderCase("DebertaV2", _DEBERTA_VARIANTS, sizes=_DEBERTA_SIZES),
    "bert": EncoderCase("Bert", {"bert-large-squad": {}}, heads=("question_answering",)),
    "modernbert": EncoderCase(
        "ModernBert",
        {"ModernBERT-squad": {"bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2}},
        heads=("question_answering",),
    ),
}


def cases() -> list[Any]:
    """(architecture, variant, head) as parameters: the first variant with every head (in the short suite with two, in
    turn), the others with one in turn.
    """
    parameters = []
    for turn, (name, case) in enumerate(ENCODERS.items()):
        first_heads = {case.heads[(turn + i) % len(case.heads)] for i in range(2)}
        for number, variant in enumerate(case.variants):
            for head in (case.heads[number % len(case.heads)],) if number else case.heads:
                is_long = number > 1 or (number == 0 and head not in first_heads)
                marks = [pytest.mark.long] if is_long else []
                parameters.append(
                    pytest.param(name, variant, head, id=f"{name}-{variant}-{head}", marks=marks)
                )
    return parameters
