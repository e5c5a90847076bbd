"""Answers and sets of labels: predictions and losses equal those derived from transformers' models of the same weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from parakit.checkpoints import load_model, read_head, save_model
from parakit.cli.main import main
from parakit.common import Lineage, UserError
from parakit.inference.loaded_model import Model
from parakit.inference.prediction.answers import answer
from parakit.inference.prediction.classification import multi_label, regress
from parakit.model.config import SPAN_LABELS, ClassifierConfig, EncoderConfig
from parakit.model.heads import Classifier
from parakit.tokens.batches.batch import LabelledBatch
from parakit.training.micro_batches import to_micro_batch
from parakit.training.objectives import answer_span
from parakit.training.objectives import multi_label as multi_label_loss
from tests.checkpoints.conformance import padding, random_ids, reference_model, saved

transformers = pytest.importorskip("transformers")
CONTEXT = "the small bird sees a red tree and sings near the old house."
QUESTIONS = [("the small bird", CONTEXT), ("a red tree", CONTEXT.upper()), ("sings", "near it")]
SIZES = {
    **{"vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"intermediate_size": 24, "max_position_embeddings": 96},
}


@pytest.fixture(scope="module")
def tokenizer(make_tokenizer):
    return make_tokenizer()


def reference(head: str, **changes):
    return reference_model(
        getattr(transformers, f"BertFor{head}"), transformers.BertConfig(**SIZES | changes), spread=0.3
    )


@pytest.fixture(scope="module")
def answerer(tmp_path_factory, tokenizer):
    """transformers' model, and Parakit's of the same weights."""
    model = reference("QuestionAnswering")
    folder = saved(model, tmp_path_factory.mktemp("answerer") / "m")
    return model, load_model(folder)[0]


def rows_of(tokenizer, question: str, context: str, size: int) -> list[tuple[list[int], int, list]]:
    """(ids, position of the context's first token, characters of its tokens) of each window, half of one apart."""
    ids, spans = tokenizer.reference_encoder.spans(context)
    question_ids = tokenizer.encode(question)
    room = size - 3 - len(question_ids)
    found, begin = [], 0
    while True:
        row = [
            tokenizer.cls_id,
            *question_ids,
            tokenizer.sep_id,
            *ids[begin : begin + room],
            tokenizer.sep_id,
        ]
        found.append((row, 2 + len(question_ids), spans[begin : begin + room]))
        if begin + room >= len(ids):
            return found
        begin += room // 2


@torch.no_grad()
def best_passage(model, tokenizer, question, context, size, max_len, allow_none):
    """Every passage of every window tried: (probability, text); the first token of a row is no answer."""
    passages, none = [], []
    for row, first, spans in rows_of(tokenizer, question, context, size):
        types = [int(i >= first) for i in range(len(row))]
        out = model(torch.tensor([row]), token_type_ids=torch.tensor([types]))
        places = [0, *range(first, first + len(spans))]
        start, end = (x[0, places].double().softmax(0) for x in (out.start_logits, out.end_logits))
        none.append(float(start[0] * end[0]))
        for i in range(len(spans)):
            for j in range(i, min(i + max_len, len(spans))):
                text = context[spans[i][0] : spans[j][1]].strip()
                passages.append((float(start[i + 1] * end[j + 1]), text))
    best = max(passages)
    return (min(none), "") if allow_none and min(none) > best[0] else best


@pytest.mark.parametrize("repeats", [1, 6])
@pytest.mark.parametrize("allow_none", [True, False])
def test_an_answer_is_the_likeliest_passage_of_all_windows(answerer, tokenizer, repeats, allow_none):
    hf_model, model = answerer
    questions = [(question, " ".join([context] * repeats)) for question, context in QUESTIONS]
    found = answer(model, tokenizer, questions, allow_none=allow_none, max_answer_len=5)
    for one, (question, context) in zip(found, questions, strict=True):
        probability, text = best_passage(hf_model, tokenizer, question, context, 96, 5, allow_none)
        assert one.text == text
        assert one.probability == pytest.approx(probability, rel=1e-4)
        assert context[one.start : one.end] == text
    alone = [answer(model, tokenizer, [one], allow_none=allow_none, max_answer_len=5)[0] for one in questions]
    assert [one.text for one in alone] == [one.text for one in found]


def test_losses_are_those_of_transformers(answerer):
    hf_model, model = answerer
    ids, mask = random_ids(300, 3, 20), padding([20, 20, 20], "right")
    spans = np.array([[3, 7], [0, 0], [19, 19]])
    batch = to_micro_batch(
        LabelledBatch(ids.numpy(), mask.numpy(), None, spans, None, 3), torch.device("cpu")
    )
    with torch.no_grad():
        start, end = torch.from_numpy(spans).T
        wanted = hf_model(ids, start_positions=start, end_positions=end).loss
        assert float(answer_span(model, batch) / 3) == pytest.approx(float(wanted), rel=1e-5)


def test_sets_of_labels_are_those_of_transformers(tmp_path, tokenizer):
    labels = {"id2label": dict(enumerate("abc")), "label2id": {x: i for i, x in enumerate("abc")}}
    hf_model = reference("SequenceClassification", problem_type="multi_label_classification", **labels)
    model, _ = load_model(saved(hf_model, tmp_path / "f"))
    assert model.classes.multi_label
    save_model(model, None, tmp_path / "g", Lineage("model"))
    assert read_head(tmp_path / "g").classes == model.classes
    assert (
        json.loads((tmp_path / "g/config.json").read_text())["problem_type"] == "multi_label_classification"
    )
    ids, mask = random_ids(300, 3, 20), padding([20, 20, 20], "right")
    truth = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1]], np.float32)
    batch = to_micro_batch(
        LabelledBatch(ids.numpy(), mask.numpy(), None, truth, None, 3), torch.device("cpu")
    )
    with torch.no_grad():
        wanted = hf_model(ids, labels=torch.from_numpy(truth)).loss
        assert float(multi_label_loss(model, batch) / 3) == pytest.approx(float(wanted), rel=1e-5)
        rows = [[tokenizer.cls_id, *tokenizer.encode(text), tokenizer.sep_id] for text, _ in QUESTIONS]
        expected = [hf_model(torch.tensor([row])).logits[0].sigmoid() for row in rows]
    found = multi_label(model, tokenizer, [text for text, _ in QUESTIONS], threshold=0.4)
    for one, probabilities in zip(found, expected, strict=True):
        assert list(one.probabilities.values()) == pytest.approx(probabilities.tolist(), rel=1e-4)
        assert one.labels == tuple(x for x, p in zip("abc", probabilities, strict=True) if p >= 0.4)


@pytest.mark.parametrize("name", ["Sigmoid", "Identity"])
@pytest.mark.parametrize("key", ["sentence_transformers", "sbert_ce_default_activation_function", None])
def test_a_cross_encoder_scores_pairs_as_its_publisher_does(tmp_path, tokenizer, name, key):
    hf_model = reference("SequenceClassification", num_labels=1)
    folder = saved(hf_model, tmp_path / "f")
    path = f"torch.nn.modules.{'activation' if name == 'Sigmoid' else 'linear'}.{name}"
    config = json.loads((folder / "config.json").read_text())
    config |= (
        {} if key is None else {key: {"activation_fn": path} if key == "sentence_transformers" else path}
    )
    (folder / "config.json").write_text(json.dumps(config))
    model, _ = load_model(folder)
    rows, types = [], []
    for first, second in QUESTIONS:
        a, b = ([tokenizer.cls_id, *tokenizer.encode(first), tokenizer.sep_id], tokenizer.encode(second))
        rows.append([*a, *b, tokenizer.sep_id])
        types.append([0] * len(a) + [1] * (len(b) + 1))
    with torch.no_grad():
        wanted = [
            hf_model(torch.tensor([row]), token_type_ids=torch.tensor([kind])).logits.squeeze()
            for row, kind in zip(rows, types, strict=True)
        ]
    is_sigmoid = key is not None and name == "Sigmoid"
    expected = [float(one.sigmoid() if is_sigmoid else one) for one in wanted]
    assert regress(model, tokenizer, QUESTIONS) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    save_model(model, tokenizer, tmp_path / "g", Lineage("model"))
    assert read_head(tmp_path / "g").classes == model.classes
    if (
        key is None
    ):  # where a folder does not say, sentence-transformers takes a sigmoid, transformers' logits have none
        return
    sentence_transformers = pytest.importorskip("sentence_transformers")
    again = sentence_transformers.CrossEncoder(str(tmp_path / "g"), device="cpu")
    assert again.predict(QUESTIONS).tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_an_answerer_is_asked_by_the_command_line(tmp_path, tokenizer, capsys):
    shape = {"d_model": 16, "n_layers": 1, "n_heads": 2, "n_kv_heads": 2, "head_dim": 8, "d_ff": 24}
    config = EncoderConfig(vocab_size=tokenizer.vocab_size, max_seq_len=64, **shape)
    torch.manual_seed(0)
    network = Classifier(config, ClassifierConfig(labels=SPAN_LABELS, level="span")).eval()
    save_model(network, tokenizer, tmp_path / "m", Lineage("model"))
    rows = [{"question": question, "context": context} for question, context in QUESTIONS]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["predict", str(tmp_path / "m"), "--input", str(tmp_path / "rows.jsonl"), "--json"]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = Model.load(tmp_path / "m", device="cpu").answer(QUESTIONS)
    assert [row["answer"] for row in printed] == [one.text for one in expected]
    assert printed[0]["context"] == CONTEXT
    assert main(["predict", str(tmp_path / "m"), "--text", "where?"]) != 0
    assert "context" in capsys.readouterr().err
    with pytest.raises(UserError, match="answer a question"):
        Model.load(tmp_path / "m", device="cpu").classify(["text"])
