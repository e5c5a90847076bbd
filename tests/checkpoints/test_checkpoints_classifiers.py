"""Classifiers on BERT and ModernBERT: transformers' scores, labels and folders; a pre-trained trunk under a new head."""

import json

import pytest
import torch

from parakit.checkpoints import load_model, read_head, save_model
from parakit.common import Lineage, UserError
from parakit.model.config import ClassifierConfig, EmbedderConfig
from parakit.model.heads import Classifier, Embedder
from tests.checkpoints.conformance import (
    assert_bf16_close,
    assert_close,
    assert_round_trip,
    padding,
    random_ids,
    reference_model,
    saved,
)

transformers = pytest.importorskip("transformers")

SIZES = {
    **{"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4},
    **{"intermediate_size": 48, "max_position_embeddings": 64, "pad_token_id": 2},
}
MODERN = {"bos_token_id": 0, "eos_token_id": 1, "cls_token_id": 0, "sep_token_id": 1, "local_attention": 6}
NAMES = ("against", "for", "neither", "änderbar")
LABELS = {"id2label": dict(enumerate(NAMES)), "label2id": {name: i for i, name in enumerate(NAMES)}}
BIASES = {"mlp_bias": True, "classifier_bias": True, "norm_bias": True}
SEQUENCE, TOKEN = "ForSequenceClassification", "ForTokenClassification"
# name -> transformers' class, what the tiny model has beyond the sizes, and how actual must be shaped
CASES = {
    "bert": ("Bert", SEQUENCE, {}, ("cls", "tanh")),
    "bert-tokens": ("Bert", TOKEN, {}, ("cls", "linear")),
    "modernbert": ("ModernBert", SEQUENCE, MODERN, ("cls", "transform")),
    "modernbert-mean": (
        "ModernBert",
        SEQUENCE,
        {**MODERN, "classifier_pooling": "mean"},
        ("mean", "transform"),
    ),
    "modernbert-biases": ("ModernBert", SEQUENCE, MODERN | BIASES, ("cls", "transform")),
    "modernbert-tokens": ("ModernBert", TOKEN, MODERN, ("cls", "transform")),
}


def tiny(prefix: str, head: str, changes: dict):
    """A transformers model, tiny and random."""
    config = getattr(transformers, f"{prefix}Config")(**SIZES | LABELS | changes)
    return reference_model(getattr(transformers, f"{prefix}{head}"), config)


@pytest.mark.parametrize("case", CASES)
def test_scores_labels_and_folders_are_those_of_transformers(tmp_path, case):
    prefix, head, changes, (pooling, dense) = CASES[case]
    reference = tiny(prefix, head, changes)
    folder = saved(reference, tmp_path / "f")
    model, _ = load_model(folder)
    assert isinstance(model, Classifier)
    level = "token" if head == TOKEN else "sequence"
    assert model.classes == ClassifierConfig(labels=NAMES, level=level, pooling=pooling, head=dense)
    ids, mask = random_ids(97, 3, 24), padding([24, 13, 1], "right")
    with torch.no_grad():
        assert_close(model(ids), reference(ids).logits)
        got, wanted = model(ids, mask), reference(ids, attention_mask=mask.long()).logits
        assert_close(got[mask] if level == "token" else got, wanted[mask] if level == "token" else wanted)
    assert_round_trip(reference, folder, tmp_path / "g", lambda m: m(ids).logits)
    assert read_head(tmp_path / "g").classes == model.classes
    written = json.loads((tmp_path / "g/config.json").read_text())
    assert written["id2label"] == {str(i): name for i, name in enumerate(NAMES)}
    assert written["label2id"] == LABELS["label2id"]


@pytest.mark.parametrize("case", ["bert", "modernbert-mean"])
def test_bfloat16_scores_are_near_those_of_transformers(tmp_path, case):
    reference = tiny(*CASES[case][:3]).to(torch.bfloat16)
    model, _ = load_model(saved(reference, tmp_path / "f"))
    exact, _ = load_model(tmp_path / "f", dtype="float32")
    ids = random_ids(97, 32, 24)
    with torch.no_grad():
        assert_bf16_close(model(ids), reference(ids).logits, exact(ids))


@pytest.mark.parametrize("prefix", ["Bert", "ModernBert"])
def test_one_number_per_label_is_a_regression(tmp_path, prefix):
    changes = {
        "num_labels": 1,
        "problem_type": "regression",
        "id2label": {0: "score"},
        "label2id": {"score": 0},
    }
    reference = tiny(prefix, SEQUENCE, changes | (MODERN if prefix == "ModernBert" else {}))
    folder = saved(reference, tmp_path / "f")
    model, _ = load_model(folder)
    assert model.classes.regression
    assert model.classes.labels == ("score",)
    ids = random_ids(97, 3, 24)
    with torch.no_grad():
        assert_close(model(ids), reference(ids).logits)
    save_model(model, None, tmp_path / "g", Lineage("model"))
    assert read_head(tmp_path / "g").classes == model.classes
    again = type(reference).from_pretrained(tmp_path / "g")
    assert again.config.problem_type == "regression"
    assert again.config.id2label == {0: "score"}


@pytest.mark.parametrize("prefix", ["Bert", "ModernBert"])
def test_a_pretrained_trunk_under_a_new_head_is_saved_and_loaded_again(tmp_path, prefix):
    pretrained, _ = load_model(
        saved(tiny(prefix, "ForMaskedLM", {} if prefix == "Bert" else MODERN), tmp_path / "f")
    )
    head = "tanh" if prefix == "Bert" else "transform"
    classifier = Classifier(pretrained.config, ClassifierConfig(labels=("no", "yes"), head=head)).eval()
    classifier.trunk.load_state_dict(pretrained.trunk.state_dict())
    embedder = Embedder(pretrained.config, EmbedderConfig(pooling="cls", normalize=False)).eval()
    embedder.trunk.load_state_dict(pretrained.trunk.state_dict())
    save_model(classifier, None, tmp_path / "c", Lineage("model"))
    save_model(embedder, None, tmp_path / "e", Lineage("model"))
    ids = random_ids(97, 3, 24)
    reference = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "c").eval()
    again, _ = load_model(tmp_path / "e")
    with torch.no_grad():
        assert_close(classifier(ids), reference(ids).logits)
        assert torch.equal(again(ids), embedder(ids))
        assert torch.equal(embedder.trunk(ids), pretrained.trunk(ids))
    assert reference.config.id2label == {0: "no", 1: "yes"}


def test_a_head_that_bert_does_not_have_is_refused_by_name(tmp_path):
    pretrained, _ = load_model(saved(tiny("Bert", "ForMaskedLM", {}), tmp_path / "f"))
    classifier = Classifier(pretrained.config, ClassifierConfig(labels=("no", "yes"), pooling="mean"))
    with pytest.raises(UserError, match=r"classes\.pooling = 'mean', where it has 'cls'"):
        save_model(classifier, None, tmp_path / "c", Lineage("model"))
