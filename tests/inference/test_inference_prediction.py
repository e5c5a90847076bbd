"""What is read out of texts does not depend on who shares the batch, equals a plain pass through the model, and
errors name what is wrong.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from parakit.common.errors import UserError
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.seq_to_seq import translate
from parakit.inference.generation.text import generate_batch, stream
from parakit.inference.prediction.classification import classify, regress, tag
from parakit.inference.prediction.embeddings import embed
from parakit.inference.prediction.fill_mask import fill_masks
from parakit.model import (
    Classifier,
    ClassifierConfig,
    DecoderConfig,
    Embedder,
    EmbedderConfig,
    EncoderConfig,
    EncoderDecoderConfig,
    LanguageModel,
    MaskedLanguageModel,
    RewardModel,
    SequenceToSequence,
)

SIDE = {
    "d_model": 16,
    "n_layers": 2,
    "n_heads": 4,
    "n_kv_heads": 2,
    "head_dim": 4,
    "d_ff": 24,
    "max_seq_len": 48,
}
TEXTS = ["the small bird", "", "a red tree and an old house while it's raining", "12 eggs.", "sings"]
LONG = "bird " * 60
LABELS = ("bad", "so so", "good")


def drawn(model):
    """Every weight drawn, in float64: a fresh model's blocks would add nothing."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4)
    return model.to(torch.float64).eval()


@pytest.fixture(scope="module")
def tokenizer(make_tokenizer):
    return make_tokenizer()


@pytest.fixture(scope="module")
def encoder(tokenizer):
    return EncoderConfig(vocab_size=tokenizer.vocab_size, n_token_types=2, **SIDE)


@pytest.fixture(scope="module")
def decoder(tokenizer):
    return DecoderConfig(vocab_size=tokenizer.vocab_size, **SIDE)


@pytest.fixture(scope="module")
def masked(encoder):
    return drawn(MaskedLanguageModel(encoder))


def with_special_tokens(tokenizer, text, pair=None):
    ids = [tokenizer.cls_id, *tokenizer.encode(text), tokenizer.sep_id]
    return ids if pair is None else [*ids, *tokenizer.encode(pair), tokenizer.sep_id]


# --- fill-mask
@torch.no_grad()
def test_candidates_are_the_likeliest_tokens_at_each_mask(masked, tokenizer):
    text = "the [MASK] bird sees [MASK]"
    found = fill_masks(masked, tokenizer, [text], n_candidates=4)[0]
    mask = [tokenizer.mask_id]
    ids = [
        tokenizer.cls_id,
        *tokenizer.encode("the"),
        *mask,
        *tokenizer.encode(" bird sees"),
        *mask,
        tokenizer.sep_id,
    ]
    probabilities = masked(torch.tensor([ids]))[0].softmax(-1)
    assert [place.position for place in found] == [i for i, one in enumerate(ids) if one == mask[0]]
    for place in found:
        best = probabilities[place.position].topk(4)
        assert [one.token_id for one in place.candidates] == best.indices.tolist()
        assert [one.probability for one in place.candidates] == pytest.approx(best.values.tolist())
    for one in found[0].candidates:
        assert one.text in (tokenizer.decode([one.token_id]), tokenizer.token(one.token_id))
        assert one.text


def test_masks_are_the_same_batched_or_alone(masked, tokenizer):
    texts = [f"{text} [MASK]" for text in TEXTS]
    together = fill_masks(masked, tokenizer, texts, micro_batch_size=3)
    for text, places in zip(texts, together, strict=True):
        alone = fill_masks(masked, tokenizer, [text])[0]
        assert [one.token_id for one in places[0].candidates] == [one.token_id for one in alone[0].candidates]
        assert places[0].candidates[0].probability == pytest.approx(alone[0].candidates[0].probability)


def test_a_mask_is_what_the_caller_says_and_text_never_forges_one(masked, tokenizer):
    form = tokenizer.special.strings["mask"]
    assert len(fill_masks(masked, tokenizer, [f"a {form} ___"], placeholder="___")[0]) == 1
    with pytest.raises(UserError, match=r"text 2 holds no placeholder '\[MASK\]'"):
        fill_masks(masked, tokenizer, ["a [MASK]", f"a {form}"])


def test_a_tokenizer_without_a_mask_token_is_refused(masked, tokenizer):
    from parakit.tokens import Tokenizer
    from parakit.tokens.tokenizer.special_tokens import SpecialTokens

    forms = {name: form for name, form in tokenizer.special.strings.items() if name != "mask"}
    bare = Tokenizer(tokenizer.json, kind=tokenizer.kind, special=SpecialTokens(forms))
    with pytest.raises(UserError, match="no MASK token"):
        fill_masks(masked, bare, ["a [MASK]"])


# --- labels and scores
@torch.no_grad()
def test_labels_have_the_probabilities_of_a_plain_pass(encoder, tokenizer):
    model = drawn(Classifier(encoder, ClassifierConfig(labels=LABELS)))
    found = classify(model, tokenizer, TEXTS, micro_batch_size=2)
    for text, one in zip(TEXTS, found, strict=True):
        expected = model(torch.tensor([with_special_tokens(tokenizer, text)]))[0].softmax(-1)
        assert list(one.probabilities) == list(LABELS)
        assert list(one.probabilities.values()) == pytest.approx(expected.tolist())
        assert one.label == LABELS[int(expected.argmax())]
        assert one.probability == max(one.probabilities.values())
    assert len({one.label for one in found}) > 1


@torch.no_grad()
def test_pairs_are_read_with_their_token_types(encoder, tokenizer):
    model = drawn(Classifier(encoder, ClassifierConfig(labels=LABELS)))
    pairs = [("the small bird", "sings"), ("a", "a red tree and an old house")]
    for pair, one in zip(pairs, classify(model, tokenizer, pairs), strict=True):
        ids = torch.tensor([with_special_tokens(tokenizer, *pair)])
        types = torch.zeros_like(ids)
        types[0, len(tokenizer.encode(pair[0])) + 2 :] = 1
        expected = model(ids, token_type_ids=types)[0].softmax(-1)
        assert list(one.probabilities.values()) == pytest.approx(expected.tolist())
        swapped = model(ids)[0].softmax(-1)
        assert not np.allclose(swapped, expected)


@torch.no_grad()
def test_scores_are_numbers_and_a_decoder_classifies_at_its_last_token(decoder, tokenizer):
    classes = ClassifierConfig(labels=("score",), regression=True, pooling="last", head="linear")
    model = drawn(Classifier(decoder, classes))
    for text, score in zip(TEXTS, regress(model, tokenizer, TEXTS), strict=True):
        ids = [tokenizer.bos_id, *tokenizer.encode(text)]
        assert score == pytest.approx(float(model(torch.tensor([ids]))[0, 0]))


@torch.no_grad()
def test_words_have_the_labels_of_their_first_tokens(encoder, tokenizer):
    model = drawn(Classifier(encoder, ClassifierConfig(labels=LABELS, level="token")))
    sentences = [
        ["The", "smallest", "bird"],
        ["sings"],
        ["a", "red", "tree", "and", "an", "old", "house"],
        ["12", "eggs."],
    ]
    together = tag(model, tokenizer, sentences, micro_batch_size=3)
    for words, labels in zip(sentences, together, strict=True):
        pieces = [tokenizer.encode(word if i == 0 else f" {word}") for i, word in enumerate(words)]
        ids = [tokenizer.cls_id, *[one for piece in pieces for one in piece], tokenizer.sep_id]
        expected = model(torch.tensor([ids]))[0].softmax(-1)
        blank = [int(not tokenizer.decode(piece[:1]).strip()) for piece in pieces]  # a space by itself
        firsts = np.cumsum([1, *[len(piece) for piece in pieces[:-1]]]) + np.array(blank)
        assert len(labels) == len(words)
        for label, first in zip(labels, firsts, strict=True):
            assert list(label.probabilities.values()) == pytest.approx(expected[first].tolist())
        assert tag(model, tokenizer, [words])[0][0].label == labels[0].label
    assert len({label.label for labels in together for label in labels}) > 1


def test_long_texts_are_cut_inside_their_frame_where_that_is_asked_for(encoder, tokenizer):
    model = drawn(Classifier(encoder, ClassifierConfig(labels=LABELS)))
    ids = tokenizer.encode(LONG)
    cut = torch.tensor([[tokenizer.cls_id, *ids[:46], tokenizer.sep_id]])
    found = classify(model, tokenizer, ["a", LONG], too_long="truncate")[1]
    assert list(found.probabilities.values()) == pytest.approx(model(cut)[0].softmax(-1).tolist())
    pair = classify(model, tokenizer, [("a red tree", LONG)], too_long="truncate")[0]
    first, available = tokenizer.encode("a red tree"), 45
    row = [tokenizer.cls_id, *first, tokenizer.sep_id, *ids[: available - len(first)], tokenizer.sep_id]
    types = torch.tensor([[0] * (len(first) + 2) + [1] * (48 - len(first) - 2)])
    expected = model(torch.tensor([row]), token_type_ids=types)[0].softmax(-1)
    assert list(pair.probabilities.values()) == pytest.approx(expected.tolist())
    words = LONG.split()
    tagger = drawn(Classifier(encoder, ClassifierConfig(labels=LABELS, level="token")))
    labels = tag(tagger, tokenizer, [words], too_long="truncate")[0]
    n_kept = sum(label is not None for label in labels)
    assert 0 < n_kept < len(words)
    assert labels[n_kept:] == [None] * (len(words) - n_kept)


# --- vectors
@torch.no_grad()
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_vectors_are_pooled_over_real_tokens_only(masked, decoder, tokenizer, pooling):
    found = embed(masked, tokenizer, TEXTS, pooling=pooling, normalize=False, micro_batch_size=2)
    assert found.dtype == np.float32
    for text, vector in zip(TEXTS, found, strict=True):
        hidden = masked.trunk(torch.tensor([with_special_tokens(tokenizer, text)]))[0]
        expected = {"mean": hidden.mean(0), "cls": hidden[0], "last": hidden[-1]}[pooling]
        np.testing.assert_allclose(vector, expected.numpy(), rtol=1e-6, atol=1e-6)
    decoder_model = drawn(LanguageModel(decoder))
    ids = torch.tensor([[tokenizer.bos_id, *tokenizer.encode(TEXTS[0])]])
    hidden = decoder_model.trunk(ids)[0]
    expected = {"mean": hidden.mean(0), "cls": hidden[0], "last": hidden[-1]}[pooling]
    vector = embed(decoder_model, tokenizer, TEXTS[:3], pooling=pooling)[0]
    np.testing.assert_allclose(vector, (expected / expected.norm()).numpy(), rtol=1e-5, atol=1e-6)


def test_an_embedder_pools_as_it_was_trained_unless_told_otherwise(encoder, tokenizer):
    model = drawn(Embedder(encoder, EmbedderConfig(pooling="cls", normalize=True)))
    own = embed(model, tokenizer, TEXTS)
    np.testing.assert_allclose(np.linalg.norm(own, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(own, embed(model, tokenizer, TEXTS, pooling="cls", normalize=True))
    assert not np.allclose(own, embed(model, tokenizer, TEXTS, pooling="mean"))
    assert not np.allclose(own, embed(model, tokenizer, TEXTS, normalize=False))
    assert embed(model, tokenizer, []).shape == (0, 16)


# --- limits and what a model cannot do
def test_a_text_over_the_window_is_refused_by_number(masked, encoder, tokenizer):
    n = len(with_special_tokens(tokenizer, LONG))
    model = Classifier(encoder, ClassifierConfig(labels=LABELS))
    for call in (
        lambda: classify(model, tokenizer, ["a", LONG, "b"]),
        lambda: embed(masked, tokenizer, ["a", LONG, "b"]),
        lambda: fill_masks(masked, tokenizer, ["[MASK]", f"{LONG}[MASK]", "[MASK]"]),
    ):
        with pytest.raises(UserError, match=rf"text 2 of 3 has ({n}|{n + 1}|{n - 1}) tokens.* 48"):
            call()


def test_a_model_asked_for_what_it_cannot_do_says_what_it_is(masked, encoder, decoder, tokenizer):
    decoder_model, rewarder = LanguageModel(decoder), RewardModel(decoder)
    translator = SequenceToSequence(EncoderDecoderConfig(encoder=encoder, decoder=decoder))
    tagger = Classifier(encoder, ClassifierConfig(labels=LABELS, level="token"))
    sampling = SamplingConfig()
    refused = [
        (lambda: generate_batch(masked, tokenizer, ["a"], sampling), "continue a text.*an encoder that predicts masked"),
        (lambda: stream(translator, tokenizer, "a", sampling), "an encoder-decoder that writes a target"),
        (lambda: fill_masks(decoder_model, tokenizer, ["[MASK]"]), "fill in masked tokens.*a decoder"),
        (lambda: translate(decoder_model, tokenizer, ["a"]), "translate.*a decoder"),
        (lambda: classify(tagger, tokenizer, ["a"]), "a tagger of words with 3 labels"),
        (lambda: tag(masked, tokenizer, [["a"]]), "label each word"),
        (lambda: regress(tagger, tokenizer, ["a"]), "score texts"),
        (lambda: embed(rewarder, tokenizer, ["a"]), "a reward model.*\n  it can: score completions"),
        (lambda: embed(tagger, tokenizer, ["a"]), "vectors.*a tagger"),
    ]  # fmt: skip
    for call, message in refused:
        with pytest.raises(UserError, match=f"(?s){message}"):
            call()
