"""Published shapes: the sizes that their papers and files give, and the counts of the built models."""

from __future__ import annotations

import pytest

from parakit.common.errors import UserError
from parakit.model import preset
from parakit.model.pretrained_configs import PRESETS
from tests.model.test_model_counts import check_counts
from tests.short_suite import shortened

# Parameters of the published files. An encoder is counted with its masked-language head: BERT without the pooler
# and the sentence head that its own 110 and 340 million include; BART with its constant bias on the logits (50,265).
EXACT = {
    "gpt": 116_534_784,
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "bert-base": 109_514_298,
    "bert-large": 335_174_458,
    "modernbert-base": 149_655_232,
    "t5-small": 60_506_624,
    "t5-base": 222_903_552,
    "t5-v1_1-base": 247_577_856,
    "bart-base": 139_420_416 + 50_265,
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,
    "mistral-7b": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "qwen2-0.5b": 494_032_768,
    "qwen3-0.6b": 596_049_920,
    "qwen3-30b-a3b": 30_532_122_624,
}

# As the papers round them: millions, and by how much our count may be off. The 2017 paper's 65 and 213 million belong
# to a vocabulary of "about 37,000"; with the pooler and the sentence head BERT-large has 336 million.
ROUNDED = {
    "transformer-base": (65, 0.03),
    "transformer-big": (213, 0.01),
    "gpt": (117, 0.005),
    "gpt2": (124, 0.005),
    "gpt2-medium": (355, 0.005),
    "gpt2-large": (774, 0.005),
    "gpt2-xl": (1_558, 0.005),
    "gpt-3": (175_000, 0.005),
    "bert-base": (110, 0.005),
    "bert-large": (340, 0.02),
    "t5-base": (223, 0.005),
    "llama-2-7b": (6_740, 0.005),
    "llama-2-13b": (13_000, 0.005),
    "llama-2-70b": (69_000, 0.005),
    "mixtral-8x7b": (46_700, 0.005),
}
ACTIVE = {"mixtral-8x7b": 12_900, "qwen3-30b-a3b": 3_300}


@pytest.mark.parametrize("name", EXACT)
def test_parameters_are_those_of_the_published_file(name: str) -> None:
    assert preset(name).n_params()["total"] == EXACT[name]


@pytest.mark.parametrize("name", ROUNDED)
def test_parameters_are_the_papers_millions(name: str) -> None:
    millions, tolerance = ROUNDED[name]
    assert preset(name).n_params()["total"] / 1e6 == pytest.approx(millions, rel=tolerance)


@pytest.mark.parametrize("name", ACTIVE)
def test_active_parameters_are_the_papers(name: str) -> None:
    assert preset(name).n_active_params() / 1e6 == pytest.approx(ACTIVE[name], rel=0.02)


@shortened("name", list(PRESETS), list(PRESETS)[::3])  # any configuration is counted in test_model_counts.py
def test_counts_of_a_preset_are_those_of_the_built_model(name: str) -> None:
    check_counts(preset(name))


def test_every_preset_is_counted_against_a_published_figure() -> None:
    assert set(PRESETS) == set(EXACT) | set(ROUNDED)


def test_berts_own_figures_come_out_with_the_pooler_and_the_sentence_head() -> None:
    for name, wanted in (("bert-base", 110_106_428), ("bert-large", 336_226_108)):
        config = preset(name)
        pooler, sentences = config.d_model**2 + config.d_model, 2 * config.d_model + 2
        assert config.n_params()["total"] + pooler + sentences == wanted


@pytest.mark.parametrize(
    ("name", "message"),
    [("gpt2-XL", "'gpt2-xl'"), ("llama-2-7", "'llama-2-7b'"), ("bert_base", "'bert-base'"), ("x", "gpt2, ")],
)
def test_an_unknown_preset_is_an_error_that_names_the_closest(name: str, message: str) -> None:
    with pytest.raises(UserError, match=f"no preset '{name}'") as error:
        preset(name)
    assert message in str(error.value)
