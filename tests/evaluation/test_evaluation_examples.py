"""Figures of a task are those of the answers that the model gives, checked against scikit-learn, scipy and
sacrebleu; the folder that they are kept in names what was measured.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import sacrebleu
import scipy.stats
import sklearn.metrics as reference_metrics
import torch

from parakit.checkpoints import save_model
from parakit.common import Lineage, UserError
from parakit.common.files import read_json
from parakit.common.seeds import rng
from parakit.data.examples import prepare_examples
from parakit.evaluation.config import EvaluationConfig
from parakit.evaluation.evaluate import evaluate_model, summary, write_evaluation
from parakit.evaluation.examples import N_SAMPLES, evaluate_examples
from parakit.inference.config import BeamConfig, SamplingConfig
from parakit.inference.generation.seq_to_seq import translate
from parakit.inference.prediction.classification import classify, regress, tag
from parakit.inference.prediction.embeddings import embed
from parakit.model import (
    Classifier,
    ClassifierConfig,
    DecoderConfig,
    Embedder,
    EmbedderConfig,
    EncoderConfig,
    EncoderDecoderConfig,
    SequenceToSequence,
)

WORDS = [
    "Anna",
    "sees",
    "the",
    "bird",
    "and",
    "Tom",
    "has",
    "it",
    "where",
    "are",
    "how",
    "many",
    "books",
    "right",
]
SIDE = {
    "d_model": 16,
    "n_layers": 1,
    "n_heads": 4,
    "n_kv_heads": 4,
    "head_dim": 4,
    "d_ff": 24,
    "max_seq_len": 48,
}
LABELS = ("bad", "good")


def drawn(model):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4)
    return model.eval()


@pytest.fixture(scope="module")
def encoder(tokenizer):
    return EncoderConfig(vocab_size=tokenizer.vocab_size, **SIDE)


def sentences(n, seed=0):
    generator = rng(seed, "sentences")
    return [" ".join(generator.choice(WORDS, generator.integers(2, 8))) for _ in range(n)]


def test_classes_are_counted_as_scikit_learn_counts_them(encoder, tokenizer):
    model = drawn(Classifier(encoder, ClassifierConfig(labels=LABELS)))
    odds = [np.log(one.values[1] / one.values[0]) for one in classify(model, tokenizer, sentences(60))]
    model.label_head.bias.data[1] -= float(np.median(odds))  # so that both labels are predicted
    labels = rng(1, "labels").choice(LABELS, 60).tolist()
    rows = [{"text": text, "label": label} for text, label in zip(sentences(60), labels, strict=True)]
    rows[3]["text_pair"] = "how many"
    done = []
    found = evaluate_examples(model, tokenizer, "classify", rows, micro_batch_size=4, advance=done.append)
    predictions = [one.label for one in classify(model, tokenizer, [row["text"] for row in rows])]
    predictions[3] = classify(model, tokenizer, [(rows[3]["text"], "how many")])[0].label
    assert set(predictions) == set(LABELS)
    assert found.value("accuracy") == pytest.approx(reference_metrics.accuracy_score(labels, predictions))
    assert found.value("f1") == pytest.approx(
        reference_metrics.f1_score(labels, predictions, pos_label="good")
    )
    assert found.value("f1_macro") == pytest.approx(
        reference_metrics.f1_score(labels, predictions, average="macro")
    )
    assert found.value("matthews") == pytest.approx(reference_metrics.matthews_corrcoef(labels, predictions))
    assert found.confusion == reference_metrics.confusion_matrix(labels, predictions, labels=LABELS).tolist()
    assert all(row["low"] <= row["value"] <= row["high"] for row in found.figures)
    assert found.figures[0]["chance"] == max(labels.count(label) for label in LABELS) / 60
    assert (sum(done), found.n) == (60, 60)
    assert [sample["correct"] for sample in found.samples] == [False] * 6 + [True] * 6
    assert len(found.samples) == N_SAMPLES


def test_words_are_counted_and_those_without_a_token_are_wrong(encoder, tokenizer):
    model = drawn(Classifier(encoder, ClassifierConfig(labels=("a", "b", "c"), level="token")))
    generator = rng(2, "tags")
    rows = [
        {"words": text.split(), "tags": generator.choice(list("abc"), len(text.split())).tolist()}
        for text in sentences(20)
    ]
    rows.append({"words": ["bird"] * 100, "tags": ["a"] * 100})
    found = evaluate_examples(model, tokenizer, "tag", rows)
    predictions = [
        ["" if one is None else one.label for one in words]
        for words in tag(model, tokenizer, [row["words"] for row in rows], too_long="truncate")
    ]
    flat = [one for words in predictions for one in words]
    wanted = [one for row in rows for one in row["tags"]]
    assert flat.count("") > 30
    assert found.value("accuracy") == pytest.approx(reference_metrics.accuracy_score(wanted, flat))
    assert f"{flat.count('')} of them cut off" in found.figures[0]["note"]


def test_scores_correlate_as_scipy_says(encoder, tokenizer):
    model = drawn(Classifier(encoder, ClassifierConfig(labels=("score",), regression=True)))
    texts = sentences(40)
    predictions = regress(model, tokenizer, texts)
    wanted = [
        one + noise
        for one, noise in zip(predictions, rng(3, "noise").normal(0, np.std(predictions), 40), strict=True)
    ]
    found = evaluate_examples(
        model, tokenizer, "regress", [{"text": t, "score": s} for t, s in zip(texts, wanted, strict=True)]
    )
    assert found.value("pearson") == pytest.approx(scipy.stats.pearsonr(predictions, wanted)[0])
    assert found.value("spearman") == pytest.approx(scipy.stats.spearmanr(predictions, wanted)[0])
    assert found.value("mean_squared_error") == pytest.approx(np.mean((np.array(predictions) - wanted) ** 2))
    assert {sample["correct"] for sample in found.samples} == {None}


@pytest.mark.parametrize("decoding", [None, BeamConfig(n_beams=2, max_new_tokens=8)])
def test_translations_have_sacrebleus_figures_and_signature(tokenizer, decoding):
    sides = {**SIDE, "vocab_size": tokenizer.vocab_size}
    model = drawn(
        SequenceToSequence(
            EncoderDecoderConfig(encoder=EncoderConfig(**sides), decoder=DecoderConfig(**sides))
        )
    )
    sources = sentences(12)
    predictions = translate(model, tokenizer, sources, decoding or SamplingConfig(temperature=0.0))
    wanted = [one if i % 2 and one.strip() else f"{one} books" for i, one in enumerate(predictions)]
    rows = [{"source": source, "target": target} for source, target in zip(sources, wanted, strict=True)]
    found = evaluate_examples(model, tokenizer, "translate", rows, decoding=decoding)
    bleu = sacrebleu.metrics.BLEU()
    assert found.value("bleu") == bleu.corpus_score(predictions, [wanted]).score
    assert found.figures[0]["note"] == str(bleu.get_signature())
    assert found.value("chrf") == sacrebleu.metrics.CHRF().corpus_score(predictions, [wanted]).score
    exact = sum(a.strip() == b.strip() for a, b in zip(predictions, wanted, strict=True)) / 12
    assert found.value("exact") == exact > 0


def test_a_partner_is_looked_for_among_all_different_texts(encoder, tokenizer):
    model = drawn(Embedder(encoder, EmbedderConfig()))
    texts = sentences(30)
    rows = [{"text": text, "positive": f"{text} it" if i % 3 else texts[0]} for i, text in enumerate(texts)]
    found = evaluate_examples(model, tokenizer, "embed", rows)
    candidates = sorted({row["positive"] for row in rows})
    similar = embed(model, tokenizer, texts) @ embed(model, tokenizer, candidates).T
    own = [candidates.index(row["positive"]) for row in rows]
    ranks = np.array([1 + (row > row[i]).sum() for row, i in zip(similar, own, strict=True)])
    assert 0 < (ranks == 1).mean() < 1
    assert found.value("accuracy_at_1") == pytest.approx((ranks == 1).mean())
    assert found.value("mean_reciprocal_rank") == pytest.approx((1 / ranks).mean())
    assert found.figures[0]["chance"] == 1 / len(candidates)


def test_what_cannot_be_measured_is_refused(encoder, tokenizer, model):
    classifier = Classifier(encoder, ClassifierConfig(labels=LABELS))
    with pytest.raises(UserError, match=r"the label 'goood'.*'bad', 'good'\n.*did you mean 'good'"):
        evaluate_examples(classifier, tokenizer, "classify", [{"text": "a", "label": "goood"}])
    with pytest.raises(UserError, match="no examples to evaluate"):
        evaluate_examples(classifier, tokenizer, "classify", [])
    with pytest.raises(UserError, match="a classifier of texts with 2 labels"):
        evaluate_examples(classifier, tokenizer, "translate", [{"source": "a", "target": "b"}])
    with pytest.raises(UserError, match=r"label texts.*a decoder that predicts"):
        evaluate_examples(model, tokenizer, "classify", [{"text": "a", "label": "good"}])
    with pytest.raises(UserError, match="no task is called 'clasify'"):
        evaluate_examples(classifier, tokenizer, "clasify", [])


def test_a_folder_of_examples_is_measured_and_kept(encoder, tokenizer, tmp_path):
    rows = [{"text": f"{text} {i}", "label": LABELS[i % 2]} for i, text in enumerate(sentences(80))]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    examples = prepare_examples(
        [str(tmp_path / "rows.jsonl")],
        "classify",
        tmp_path / "examples",
        validation_fraction=0.2,
        test_fraction=0.2,
    )
    classifier = drawn(Classifier(encoder, ClassifierConfig(labels=LABELS)))
    folder = save_model(classifier, tokenizer, tmp_path / "model", Lineage("model"))
    config = EvaluationConfig(examples=str(examples))
    results = evaluate_model(folder, config)
    assert (results["examples"]["task"], results["examples"]["split"]) == ("classify", "test")
    validation = evaluate_model(folder, config.replace(examples_split="validation"))["examples"]
    assert (validation["split"], validation["n"]) != ("test", results["examples"]["n"])
    kept = write_evaluation(tmp_path / "kept", results, config)
    assert read_json(kept / "results.json")["examples"] == results["examples"]
    assert "samples" not in summary(results)["examples"]
    assert len(read_json(kept / "lineage.json")["parents"]) == 2
    (tmp_path / "text.txt").write_text("Anna sees the bird.")
    with pytest.raises(UserError, match=r"bits per byte.*a classifier"):
        evaluate_model(folder, EvaluationConfig(text=(str(tmp_path / "text.txt"),)))
