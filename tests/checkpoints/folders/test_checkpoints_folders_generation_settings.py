"""A publisher's generation settings, from generation_config.json or from an older config.json."""

import json
import math

import pytest

from parakit.checkpoints.generation_settings import published_generation
from parakit.common.errors import UserError

# facebook/bart-large-cnn, generation keys of its config.json as published
BART_CNN = {
    **{"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "decoder_start_token_id": 2},
    **{"early_stopping": True, "force_bos_token_to_be_generated": True, "forced_bos_token_id": 0},
    **{"forced_eos_token_id": 2, "length_penalty": 2.0, "max_length": 142, "min_length": 56},
    **{"no_repeat_ngram_size": 3, "num_beams": 4, "prefix": " ", "model_type": "bart"},
}
# Helsinki-NLP/opus-mt-en-de, its generation_config.json
MARIAN = {
    **{"bad_words_ids": [[58100]], "bos_token_id": 0, "decoder_start_token_id": 58100, "eos_token_id": 0},
    **{"forced_eos_token_id": 0, "max_length": 512, "num_beams": 6, "pad_token_id": 58100},
    **{"renormalize_logits": True, "transformers_version": "4.32.0.dev0", "_from_model_config": True},
}
# meta-llama/Llama-3.1-8B-Instruct
LLAMA = {
    **{"bos_token_id": 128000, "do_sample": True, "eos_token_id": [128001, 128008, 128009]},
    **{"temperature": 0.6, "top_p": 0.9, "transformers_version": "4.42.3"},
}


@pytest.fixture
def folder(tmp_path):
    def write(config=None, generation=None):
        for name, content in (("config.json", config), ("generation_config.json", generation)):
            (tmp_path / name).unlink(missing_ok=True)
            if content is not None:
                (tmp_path / name).write_text(json.dumps(content))
        return tmp_path

    return write


def test_an_older_config_has_its_generation_keys(folder):
    settings = published_generation(folder(BART_CNN))
    assert (settings.n_beams, settings.length_penalty, settings.no_repeat_ngram_size) == (4, 2.0, 3)
    assert (settings.forced_bos_id, settings.forced_eos_ids, settings.eos_ids) == (0, (2,), (2,))
    assert (settings.max_length, settings.min_length, settings.early_stopping) == (142, 56, True)
    assert (settings.pad_id, settings.decoder_start_id) == (1, 2)
    assert settings.other == {}
    first = {key: value for key, value in BART_CNN.items() if key != "forced_bos_token_id"}
    assert published_generation(folder(first)).forced_bos_id == 0


def test_generation_config_stands_before_config(folder):
    settings = published_generation(folder({"num_beams": 3, "pad_token_id": 7, "eos_token_id": 9}, LLAMA))
    assert settings.n_beams is None
    assert settings.eos_ids == (128001, 128008, 128009)
    assert settings.pad_id == 7  # an id that generation_config.json lacks
    assert settings.sampling() == {"temperature": 0.6, "top_p": 0.9}
    settings = published_generation(folder({}, MARIAN))
    assert (settings.bad_word_ids, settings.renormalize_logits) == (((58100,),), True)
    assert settings.other == {}


def test_the_same_settings_as_transformers_reads(folder):
    from transformers import GenerationConfig

    reference = GenerationConfig.from_model_config(dict(BART_CNN))
    settings = published_generation(folder(BART_CNN))
    assert settings.n_beams == reference.num_beams
    assert settings.forced_bos_id == reference.forced_bos_token_id
    assert settings.min_length == reference.min_length
    assert settings.no_repeat_ngram_size == reference.no_repeat_ngram_size


def test_defaults_in_an_older_config_set_nothing(folder):
    """Files of 2019 and 2020 repeat every default."""
    dumped = {
        **{"do_sample": False, "max_length": 20, "min_length": 0, "num_beams": 1, "early_stopping": False},
        **{"temperature": 1.0, "top_k": 50, "top_p": 1.0, "repetition_penalty": 1.0, "bad_words_ids": None},
        **{"length_penalty": 1.0, "no_repeat_ngram_size": 0, "num_return_sequences": 1, "num_beam_groups": 1},
    }
    assert published_generation(folder(dumped)) == published_generation(folder({}))
    assert published_generation(folder({}, {"do_sample": False})).sampling() == {"temperature": 0.0}


def test_what_has_no_name_here_is_listed(folder):
    settings = published_generation(
        folder({}, LLAMA | {"eta_cutoff": 0.9, "chat_format": "chatml", "penalty_alpha": None})
    )
    assert settings.other == {"eta_cutoff": 0.9, "chat_format": "chatml"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("length_penalty", "long"),
        ("num_beams", 0),
        ("num_beam_groups", 0),
        ("diversity_penalty", math.nan),
        ("typical_p", 0.0),
        ("penalty_alpha", 1.5),
        ("sequence_bias", [[[], 1.0]]),
        ("sequence_bias", [[[3], "much"]]),
        ("num_beams", 1.5),
        ("top_p", 2.0),
        ("eos_token_id", [1, -2]),
        ("eos_token_id", "</s>"),
        ("bad_words_ids", [3]),
        ("bad_words_ids", [[]]),
        ("suppress_tokens", {"1": 2}),
        ("early_stopping", "soon"),
        ("min_length", -1),
        ("no_repeat_ngram_size", True),
    ],
)
@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_nonsense_is_refused_with_file_and_key(folder, file, key, value):
    path = folder({key: value}) if file == "config.json" else folder({}, {key: value})
    with pytest.raises(UserError) as caught:
        published_generation(path)
    assert str(path / file) in caught.value.message
    assert f"`{key}` is" in caught.value.message
