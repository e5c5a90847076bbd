"""The same 64 tokens as transformers' `generate`, greedily and with four beams, for decoders and encoder-decoders,
prompts and sources of unlike length in one batch.
"""

from __future__ import annotations

import pytest
import torch
import transformers
from transformers import GenerationConfig

from parakit.checkpoints import load_model
from parakit.common.seeds import rng
from parakit.inference.config import BeamConfig, SamplingConfig
from parakit.inference.generation.beam_search import beam_search
from parakit.inference.generation.decoding import generate_ids
from parakit.inference.generation.seq_to_seq import beam_search_sequences, generate_sequences
from parakit.inference.prediction.fill_mask import fill_masks

GREEDY = SamplingConfig(temperature=0.0, max_new_tokens=64)
LENGTHS = (9, 30, 1, 17)  # of prompts and sources; all but one longer than the sliding window
SIZES = {"vocab_size": 83, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = {**SIZES, "num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 128}
PAIR = {
    "vocab_size": 83, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 128,
    "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 2, "forced_eos_token_id": None,
}  # fmt: skip
T5 = {
    "vocab_size": 83,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "n_positions": 128,
}
DECODERS = {
    "gpt2": ("GPT2", {"vocab_size": 83, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}),
    "llama": ("Llama", LLAMA),
    "mistral": ("Mistral", {**LLAMA, "sliding_window": 8}),
    "mixtral": ("Mixtral", {**LLAMA, "num_local_experts": 4}),
}
PAIRS = {
    "t5": ("T5", {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "bart": ("Bart", PAIR),
    "marian": ("Marian", PAIR),
}


def both(folder, name, config, tail):
    """A tiny random transformers model, each weight moved from where fresh models start, and ours from its folder."""
    torch.manual_seed(4)
    reference = getattr(transformers, f"{name}{tail}")(
        getattr(transformers, f"{name}Config")(**config)
    ).eval()
    with torch.no_grad():
        for parameter in reference.parameters():  # Marian's table of sines is a parameter that never trains
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * (0.1 if parameter.ndim == 1 else 0.6))
    reference.save_pretrained(folder)
    return load_model(folder)[0], reference


@pytest.fixture(scope="module", params=DECODERS)
def decoders(request, tmp_path_factory):
    name, config = DECODERS[request.param]
    tail = "LMHeadModel" if name == "GPT2" else "ForCausalLM"
    return both(tmp_path_factory.mktemp("decoders") / name, name, config, tail)


@pytest.fixture(scope="module", params=PAIRS)
def pairs(request, tmp_path_factory):
    name, config = PAIRS[request.param]
    tail = "MTModel" if name == "Marian" else "ForConditionalGeneration"
    return both(tmp_path_factory.mktemp("pairs") / name, name, config, tail)


def rows():
    generator = torch.Generator().manual_seed(2)
    return [torch.randint(3, 83, (n,), generator=generator).tolist() for n in LENGTHS]


def reference_tokens(reference, rows, side, **settings):
    """What transformers generates for all rows in one batch, padded on `side`, without prompts and padding."""
    longest = max(map(len, rows))
    input_ids, mask = (
        torch.zeros(len(rows), longest, dtype=torch.long),
        torch.zeros(len(rows), longest, dtype=torch.long),
    )
    for i, row in enumerate(rows):
        place = slice(longest - len(row), None) if side == "left" else slice(len(row))
        input_ids[i, place], mask[i, place] = torch.tensor(row), 1
    config = GenerationConfig(
        **{"do_sample": False, "pad_token_id": 82, "eos_token_id": None, "decoder_start_token_id": 2}
        | settings
    )
    reference.generation_config = config
    out = reference.generate(input_ids, attention_mask=mask)
    out = out[:, longest:] if side == "left" else out[:, 1:]
    ends = settings.get("eos_token_id") or ()
    found = []
    for row in out.tolist():
        end = next((i + 1 for i, token_id in enumerate(row) if token_id in ends), len(row))
        found.append(row[:end])
    return found


def test_decoders_say_the_same_64_tokens(decoders):
    model, reference = decoders
    got = generate_ids(model, rows(), GREEDY)
    assert got == reference_tokens(reference, rows(), "left", max_new_tokens=64)
    assert [len(one) for one in got] == [64] * 4
    assert min(len(set(one)) for one in got) > 5


def test_encoder_decoders_write_the_same_64_tokens(pairs):
    model, reference = pairs
    start, penalty = (
        model.config.decoder_start_id,
        2.0,
    )  # without it, models as tiny as these repeat themselves
    got = generate_sequences(model, rows(), GREEDY.replace(repetition_penalty=penalty))
    settings = {"repetition_penalty": penalty, "decoder_start_token_id": start}
    assert got == reference_tokens(reference, rows(), "right", max_new_tokens=64, **settings)
    assert [len(one) for one in got] == [64] * 4
    assert min(len(set(one)) for one in got) > 3


WORDS = "the small bird sees a red tree and ##s sing . near old house"
BEAMS = [
    {"length_penalty": 1.0, "early_stopping": False},
    {"length_penalty": -0.5, "early_stopping": True},
    {"length_penalty": 2.0, "early_stopping": "never"},
]


@pytest.mark.parametrize("settings", BEAMS, ids=["unlikely", "full", "impossible"])
def test_four_beams_of_a_decoder_find_the_same(decoders, settings):
    compare_beams(beam_search, *decoders, "left", settings)


@pytest.mark.parametrize("settings", BEAMS, ids=["unlikely", "full", "impossible"])
def test_four_beams_of_an_encoder_decoder_find_the_same(pairs, settings):
    compare_beams(beam_search_sequences, *pairs, "right", settings)


def compare_beams(search, model, reference, side, settings):
    stop_when = {False: "unlikely", True: "full", "never": "impossible"}[settings["early_stopping"]]
    penalty, n_new = settings["length_penalty"], 20
    config = BeamConfig(n_beams=4, length_penalty=penalty, stop_when=stop_when, max_new_tokens=n_new)
    stop_ids = frequent(model, search)
    start = getattr(model.config, "decoder_start_id", 2)
    common = {"num_beams": 4, "eos_token_id": stop_ids, "max_new_tokens": n_new, **settings}
    got = [beams[0].token_ids for beams in search(model, rows(), config, stop_ids)]
    assert got == reference_tokens(reference, rows(), side, decoder_start_token_id=start, **common)
    assert penalty > 1 or any(one[-1] in stop_ids for one in got), "no stop id was met"


def frequent(model, search):
    """Tokens that this model says now and then, to stop at."""
    found = search(model, rows(), BeamConfig(n_beams=4, max_new_tokens=20))
    return sorted({found[0][0].token_ids[9], found[1][0].token_ids[12], found[3][0].token_ids[5]})


def test_masks_are_filled_as_by_transformers_pipeline(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split()]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizerFast(str(tmp_path / "vocab.txt"))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
    )
    reference = transformers.BertForMaskedLM(config).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    reference.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model, our_tokenizer = load_model(tmp_path)
    texts = ["The [MASK] bird sings near a house.", "[MASK]", "a red [MASK] and the old [MASK] ."]
    pipeline = transformers.pipeline("fill-mask", model=reference, tokenizer=tokenizer, top_k=4)
    for places, text in zip(fill_masks(model, our_tokenizer, texts, n_candidates=4), texts, strict=True):
        wanted = pipeline(text)
        wanted = [wanted] if text.count("[MASK]") == 1 else wanted
        for place, candidates in zip(places, wanted, strict=True):
            assert [one.token_id for one in place.candidates] == [one["token"] for one in candidates]
            assert [one.probability for one in place.candidates] == pytest.approx(
                [one["score"] for one in candidates], rel=1e-4
            )
            assert [one.text for one in place.candidates] == [one["token_str"] for one in candidates]


def sweep_settings(number):
    """Settings of beam search that differ from prompt to prompt, under transformers' names."""
    draw = rng(number, "beam sweep")
    return {
        "num_beams": int(draw.integers(2, 6)),
        "length_penalty": float(draw.choice([-0.5, 0.0, 1.0, 1.7])),
        "early_stopping": [False, True, "never"][draw.integers(3)],
        "no_repeat_ngram_size": int(draw.integers(0, 4)),
        "repetition_penalty": float(draw.choice([1.0, 1.3])),
        "min_new_tokens": int(draw.integers(0, 6)),
        "max_new_tokens": int(draw.integers(6, 20)),
    }


def beam_mismatches(model, reference, prompts, stop_ids):
    """The prompts for which beam search and transformers' `generate` differ, with their settings."""
    names = {False: "unlikely", True: "full", "never": "impossible"}
    found = []
    for number, prompt in enumerate(prompts):
        settings = sweep_settings(number)
        renamed = {name: settings[name] for name in settings if name not in ("num_beams", "early_stopping")}
        config = BeamConfig(
            n_beams=settings["num_beams"], stop_when=names[settings["early_stopping"]], **renamed
        )
        got = beam_search(model, [prompt], config, stop_ids)[0][0].token_ids
        [wanted] = reference_tokens(reference, [prompt], "left", eos_token_id=stop_ids, **settings)
        if got != wanted:
            found.append((prompt, settings, got, wanted))
    return found


def random_prompts(n):
    draw = rng(n, "beam prompts")
    return [draw.integers(3, 83, length).tolist() for length in draw.integers(1, 30, n)]


def test_beams_with_penalties_and_ngram_blocks_find_what_transformers_finds(tmp_path):
    model, reference = both(tmp_path, *DECODERS["llama"], "ForCausalLM")
    assert beam_mismatches(model, reference, random_prompts(10), frequent(model, beam_search)) == []


@pytest.mark.long
def test_beams_of_200_prompts_with_200_settings_are_those_of_transformers(decoders):
    model, reference = decoders
    assert beam_mismatches(model, reference, random_prompts(200), frequent(model, beam_search)) == []


@pytest.mark.long
def test_beams_of_a_published_model_are_those_of_transformers(smollm2_folder):
    model, tokenizer = load_model(smollm2_folder)
    reference = transformers.AutoModelForCausalLM.from_pretrained(smollm2_folder, dtype=torch.float32)
    texts = ["The capital of France is", "Once upon a time", "def add(a, b):", "Water boils at", "In 1969"]
    prompts = [tokenizer.encode(text) for text in texts]
    assert beam_mismatches(model, reference, prompts, [tokenizer.eos_id]) == []
