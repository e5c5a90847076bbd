"""Exact matches and F1 of answers as SQuAD measures them, and F1 of sets of labels as scikit-learn does."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as reference_metrics
import torch

from parakit.evaluation.examples import evaluate_examples
from parakit.evaluation.metrics import answers
from parakit.inference.prediction.classification import multi_label
from parakit.model.config import SPAN_LABELS, ClassifierConfig, EncoderConfig
from parakit.model.heads import Classifier
from parakit.tokens import TokenizerConfig, train_tokenizer

WORDS = ["the", "small", "bird", "sees", "a", "red", "tree", "and", "sings", "near", "an", "old", "house"]
SHAPE = {"d_model": 16, "n_layers": 1, "n_heads": 2, "n_kv_heads": 2, "head_dim": 8, "d_ff": 24}


@pytest.mark.parametrize(
    ("prediction", "right", "exact", "f1"),
    [
        ("The Bird!", ["bird"], True, 1.0),
        ("a red tree", ["red trees"], False, 0.5),
        ("red tree here", ["a red tree"], False, 0.8),  # 2 of 3 and 2 of 2 words
        ("tree tree", ["tree"], False, 2 / 3),
        ("house", ["tree", "the house"], True, 1.0),
        ("", [""], True, 1.0),
        ("", ["tree"], False, 0.0),
        ("tree", [""], False, 0.0),
        ("the", ["an"], True, 1.0),  # articles do not count
    ],
)
def test_words_are_compared_as_squad_compares_them(prediction, right, exact, f1) -> None:
    assert answers.exact(prediction, right) is exact
    assert answers.f1(prediction, right) == pytest.approx(f1)


def classifier(tokenizer, **classes) -> Classifier:
    torch.manual_seed(0)
    config = EncoderConfig(vocab_size=tokenizer.vocab_size, max_seq_len=64, n_token_types=2, **SHAPE)
    model = Classifier(config, ClassifierConfig(**classes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4)
    return model


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(iter([" ".join(WORDS) * 9]), TokenizerConfig(vocab_size=300))


def test_figures_of_answers_are_means_over_questions(tokenizer) -> None:
    model = classifier(tokenizer, labels=SPAN_LABELS, level="span")
    contexts = [" ".join(np.random.default_rng(i).permutation(WORDS)) for i in range(12)]
    rows = [
        {"question": "where?", "context": text, "answers": [WORDS[i]] if i % 3 else []}
        for i, text in enumerate(contexts)
    ]
    result = evaluate_examples(model, tokenizer, "answer", rows)
    assert [figure["name"] for figure in result.figures] == ["exact", "f1_tokens"]
    predictions = {sample["input"]: sample["prediction"] for sample in result.samples}
    assert len(predictions) == 12
    overlaps = []
    for row in rows:
        prediction = predictions[f"where? | {row['context']}"]
        overlaps.append(answers.f1("" if prediction == "none" else prediction, row["answers"] or [""]))
    assert result.value("f1_tokens") == pytest.approx(np.mean(overlaps))


def test_figures_of_labels_are_those_of_scikit_learn(tokenizer) -> None:
    names = ("x", "y", "z", "never")
    model = classifier(tokenizer, labels=names, multi_label=True)
    generator = np.random.default_rng(0)
    truth = generator.random((20, 4)) < [0.5, 0.2, 0.7, 0.0]
    rows = [
        {
            "text": " ".join(generator.choice(WORDS, 8)),
            "labels": [n for n, on in zip(names, row, strict=True) if on],
        }
        for row in truth
    ]
    result = evaluate_examples(model, tokenizer, "multi_label", rows)
    found = multi_label(model, tokenizer, [row["text"] for row in rows])
    predicted = np.array([[name in one.labels for name in names] for one in found])
    assert predicted.any()
    for average in ("micro", "macro"):
        used = (predicted | truth).any(0)  # a label that occurs nowhere has no F1
        wanted = reference_metrics.f1_score(truth[:, used], predicted[:, used], average=average)
        assert result.value(f"f1_{average}") == pytest.approx(wanted)
    assert result.value("exact") == pytest.approx(reference_metrics.accuracy_score(truth, predicted))
