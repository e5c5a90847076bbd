"""A publisher's generation settings give the tokens that transformers' `generate` gives with them."""

from __future__ import annotations

import json
import re

import pytest
import torch
import transformers

import parakit
from parakit.checkpoints import load_model
from parakit.common.errors import UserError
from parakit.inference.config import BeamConfig, SamplingConfig
from parakit.inference.generation.beam_search import beam_search
from parakit.inference.generation.decoding import generate_ids
from parakit.inference.generation.published_rules import (
    beam_settings,
    generation_rules,
    not_honoured,
    published_settings_of,
)
from parakit.inference.generation.rules import GenerationRules
from parakit.inference.generation.seq_to_seq import beam_search_sequences, generate_sequences
from tests.inference.test_inference_transformers import DECODERS, PAIRS, both, reference_tokens, rows
from tests.published_families import write_model

N_NEW = 20
# Settings as a publisher writes them, after what a model says without them: {i} is the i-th token of its first output.
SETTINGS = {
    "ngrams": {"no_repeat_ngram_size": 2},
    "ngrams of the source": {"encoder_no_repeat_ngram_size": 1},
    "repetition": {"repetition_penalty": 1.7, "encoder_repetition_penalty": 1.3},
    "suppressed": {"suppress_tokens": ["{0}", "{3}"], "begin_suppress_tokens": ["{1}"]},
    "bad words": {"bad_words_ids": [["{2}"], ["{0}", "{1}"], ["{3}", "{4}", "{5}"]]},
    "minimum": {"eos_token_id": ["{4}", "{6}"], "min_new_tokens": 9},
    "minimal length": {"eos_token_id": ["{2}"], "min_length": 12},
    "forced": {"forced_bos_token_id": 7, "forced_eos_token_id": 11, "begin_suppress_tokens": ["{0}"]},
    "together": {
        **{
            "no_repeat_ngram_size": 3,
            "eos_token_id": ["{5}"],
            "min_new_tokens": 7,
            "renormalize_logits": True,
        },
        **{"suppress_tokens": ["{1}"], "forced_eos_token_id": 82, "bad_words_ids": [["{2}", "{3}"]]},
    },
}
MAY_CHANGE_NOTHING = ("ngrams", "ngrams of the source", "repetition")  # of a model that repeats nothing
QUICK = {("llama", "together"), ("bart", "together"), ("t5", "forced"), ("gpt2", "bad words")}
CASES = [
    pytest.param(name, case, marks=() if (name, case) in QUICK else pytest.mark.long)
    for name in (*DECODERS, *PAIRS)
    for case in SETTINGS
]
_models: dict = {}


def model_of(name: str, folder):
    if name not in _models:
        kind, config = (DECODERS | PAIRS)[name]
        tail = {"GPT2": "LMHeadModel", "Marian": "MTModel"}.get(kind)
        tail = tail or ("ForCausalLM" if name in DECODERS else "ForConditionalGeneration")
        _models[name] = both(folder / name, kind, config, tail)
    return _models[name]


def filled(settings, unruled):
    """The settings with the tokens that the model writes without them in place of their numbers."""
    return json.loads(re.sub(r'"\{(\d)\}"', lambda match: str(unruled[int(match[1])]), json.dumps(settings)))


@pytest.mark.parametrize(("name", "case"), CASES)
def test_settings_give_the_tokens_of_transformers(name, case, tmp_path_factory):
    model, reference = model_of(name, tmp_path_factory.mktemp("models"))
    is_pair = name in PAIRS
    generate, search = (generate_sequences, beam_search_sequences) if is_pair else (generate_ids, beam_search)
    greedy = SamplingConfig(temperature=0.0, max_new_tokens=N_NEW)
    unruled = generate(model, rows(), greedy)[0]
    settings = filled(SETTINGS[case], unruled)
    penalty = settings.get("repetition_penalty", 1.0)
    ends = tuple(settings.get("eos_token_id", ()))
    forced = settings.get("forced_eos_token_id", ())
    rules = GenerationRules(
        repetition_penalty=penalty,
        encoder_repetition_penalty=settings.get("encoder_repetition_penalty", 1.0),
        no_repeat_ngram_size=settings.get("no_repeat_ngram_size", 0),
        encoder_no_repeat_ngram_size=settings.get("encoder_no_repeat_ngram_size", 0),
        bad_word_ids=tuple(map(tuple, settings.get("bad_words_ids", ()))),
        min_length=settings.get("min_length", 0),
        min_new_tokens=settings.get("min_new_tokens", 0),
        forced_bos_id=settings.get("forced_bos_token_id"),
        forced_eos_ids=tuple([forced] if isinstance(forced, int) else forced),
        suppress_ids=tuple(settings.get("suppress_tokens", ())),
        begin_suppress_ids=tuple(settings.get("begin_suppress_tokens", ())),
        renormalize=settings.get("renormalize_logits", False),
        eos_ids=ends,
    )
    side, start = ("right", model.config.decoder_start_id) if is_pair else ("left", 2)
    common = {**settings, "max_new_tokens": N_NEW, "decoder_start_token_id": start}
    # row by row: transformers counts the padding of a batch of prompts as read
    wanted = [reference_tokens(reference, [row], side, **common)[0] for row in rows()]
    assert generate(model, rows(), greedy, ends, rules=rules) == wanted
    without = generate(model, rows(), greedy, ends)
    assert wanted != without or case in MAY_CHANGE_NOTHING, "the settings change nothing"
    beams = BeamConfig(n_beams=3, max_new_tokens=N_NEW)
    wanted = [reference_tokens(reference, [row], side, num_beams=3, **common)[0] for row in rows()]
    assert [best[0].token_ids for best in search(model, rows(), beams, ends, rules=rules)] == wanted


def published(folder, **settings):
    """A tiny GPT-2 whose publisher set these, and transformers' of the same folder."""
    folder = write_model("gpt2", folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 0, **settings}))
    return parakit.load(folder, device="cpu"), transformers.AutoModelForCausalLM.from_pretrained(folder)


def test_settings_of_a_folder_are_followed_or_named(tmp_path, capsys):
    settings = {"no_repeat_ngram_size": 2, "max_new_tokens": 30, "num_beams": 4, "eta_cutoff": 0.6}
    model, reference = published(tmp_path / "model", do_sample=False, **settings)
    named = capsys.readouterr().err
    assert "eta_cutoff" in named
    assert "num_beams" not in named
    assert "no_repeat" not in named
    ids = torch.tensor([model.tokenizer.encode("the old bird")])
    wanted = reference.generate(ids, eta_cutoff=None)[0, ids.shape[1] :].tolist()
    assert list(model.completions("the old bird")[0].token_ids) == wanted
    greedy = reference.generate(ids, num_beams=1, eta_cutoff=None)[0, ids.shape[1] :].tolist()
    assert list(model.completions("the old bird", n_beams=1)[0].token_ids) == greedy
    stream = model.stream("the old bird")  # which has no beams
    list(stream)
    assert list(stream.completion.token_ids) == greedy != wanted


def test_a_decoder_searches_as_its_publisher_does(tmp_path):
    groups = {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5, "max_new_tokens": 9}
    model, _ = published(tmp_path / "groups", **groups)
    found = model.completions("the old bird")
    wanted = {"n_beams": 4, "n_beam_groups": 2, "diversity_penalty": 0.5, "max_new_tokens": 9}
    assert found[0].score == max(one.score for one in found)
    ids = [one.token_ids for one in found]
    assert ids == [one.token_ids for one in model.completions("the old bird", **wanted)]
    assert ids != [one.token_ids for one in model.completions("the old bird", n_beams=4)]
    model, _ = published(tmp_path / "contrast", penalty_alpha=0.6, top_k=3, max_new_tokens=9)
    wanted = model.generate("the old bird", penalty_alpha=0.6, top_k=3)
    assert model.generate("the old bird") == wanted != model.generate("the old bird", temperature=0.0)
    bias = [[[5], 2.5], [[5, 6], -40.0], [[7, 5], 3.0]]
    model, reference = published(tmp_path / "bias", sequence_bias=bias, do_sample=False, max_new_tokens=12)
    ids = torch.tensor([model.tokenizer.encode("the old bird")])
    wanted = reference.generate(ids)[0, ids.shape[1] :].tolist()
    assert list(model.completions("the old bird")[0].token_ids) == wanted
    with pytest.raises(UserError, match="n_beams = 4 is no multiple of n_beam_groups = 3"):
        published(tmp_path / "odd", **groups | {"num_beam_groups": 3})


@pytest.mark.parametrize("name", PAIRS)
def test_an_encoder_decoder_writes_neither_pad_nor_its_start(name, tmp_path):
    kind, config = PAIRS[name]
    tail = "MTModel" if kind == "Marian" else "ForConditionalGeneration"
    model, reference = both(tmp_path, kind, config, tail)
    start, pad = model.config.decoder_start_id, reference.config.pad_token_id
    with torch.no_grad():  # the likeliest tokens, whatever the vectors are
        model.lm_head.weight[[start, pad]] *= 0
        model.lm_head.weight[[start, pad], :] += 40 * torch.sign(model.lm_head.weight.mean(0))
    tokenizer = type("Tiny", (), {"eos_id": 1, "pad_id": pad})()
    rules = generation_rules(model, tokenizer)
    written = {
        token_id
        for one in generate_sequences(
            model, rows(), SamplingConfig(temperature=0.0, max_new_tokens=30), rules=rules
        )
        for token_id in one
    }
    assert not {start, pad} & written


def test_beams_of_a_published_summarizer_are_its_defaults(tmp_path):
    kind, config = PAIRS["bart"]
    both(tmp_path, kind, config, "ForConditionalGeneration")
    content = json.loads((tmp_path / "config.json").read_text())
    old = {"num_beams": 4, "length_penalty": 2.0, "early_stopping": True, "max_length": 142, "min_length": 56}
    (tmp_path / "generation_config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(content | old | {"no_repeat_ngram_size": 3}))
    settings = published_settings_of(load_model(tmp_path)[0])
    assert beam_settings(settings) == {
        "n_beams": 4, "length_penalty": 2.0, "stop_when": "full", "max_new_tokens": 141,
    }  # fmt: skip
    assert not_honoured(settings, True) == []
    assert (settings.min_length, settings.no_repeat_ngram_size) == (56, 3)
