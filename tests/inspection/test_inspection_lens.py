"""The logit lens equals what transformers computes from its hidden states; a tuned lens comes closer to the output."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from parakit.checkpoints.model_folder import save_model
from parakit.common.artifacts import Lineage
from parakit.common.errors import UserError
from parakit.common.settings import Family
from parakit.inference.loaded_model import Model
from parakit.inspection.config import TunedLensConfig
from parakit.inspection.inputs import encode_input, run
from parakit.inspection.lenses import tuned_lens
from parakit.inspection.lenses.logit_lens import logit_lens, read_out, residual_stream
from parakit.inspection.lenses.tuned_lens import TunedLens, load_tuned_lens, train_tuned_lens
from parakit.model.config import EncoderConfig
from parakit.model.presets import config_for_size
from parakit.stages.task_models import build_model
from parakit.tokens import TokenizerConfig, train_tokenizer
from tests.sample_text import sentences

TEXT = "the small bird sees a red tree"


@pytest.fixture(scope="module")
def decoder(published_decoder: Path) -> Model:
    return Model.load(published_decoder, device="cpu")


@pytest.fixture(scope="module")
def encoder(published_encoder: Path) -> Model:
    return Model.load(published_encoder, device="cpu")


@pytest.fixture(scope="module")
def random_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """A model of each family whose weights are large enough for layers to differ, each in a folder."""
    tokenizer = train_tokenizer(
        iter(sentences(i, 12) for i in range(8)), TokenizerConfig(kind="byte_bpe", vocab_size=300)
    )
    found = {}
    for family in ("decoder", "encoder", "encoder-decoder"):
        torch.manual_seed(0)
        network = build_model(config_for_size("50k", tokenizer.vocab_size, 48, family).config)
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=parameter.shape[1] ** -0.5)
        folder = tmp_path_factory.mktemp(family) / "model"
        save_model(network, tokenizer, folder, Lineage("model"))
        found[family] = Model.load(folder, device="cpu")
    return found


def reference_logs(folder: Path, token_ids: list[int], family: Family) -> list[np.ndarray]:
    """Log-probabilities (T, V) of every hidden state by transformers' own modules."""
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    kind = AutoModelForCausalLM if family == "decoder" else AutoModelForMaskedLM
    model = kind.from_pretrained(folder).eval()
    with torch.no_grad():
        found = model(torch.tensor([token_ids]), output_hidden_states=True)
        states = list(found.hidden_states)[:-1]
        if family == "decoder":
            logits = [model.lm_head(model.model.norm(state)) for state in states]
        else:
            logits = [model.cls(state) for state in states]
    return [one[0].log_softmax(-1).numpy() for one in [*logits, found.logits]]


@pytest.mark.parametrize("family", ["decoder", "encoder"])
def test_every_layer_predicts_what_transformers_reads_from_its_hidden_state(family, request):
    model: Model = request.getfixturevalue(family)
    given = encode_input(model, TEXT)
    expected = reference_logs(model.path, list(given.token_ids), family)
    found = logit_lens(model, TEXT, n_candidates=3)
    assert found.places == ("embedding", "1", "2")
    for place, logs in enumerate(expected):
        best = np.sort(np.exp(logs), axis=1)[:, ::-1][:, :3]
        np.testing.assert_allclose(found.top_probabilities[place], best, rtol=1e-4)
        kl = (np.exp(expected[-1]) * (expected[-1] - logs)).sum(1)
        np.testing.assert_allclose(found.kl[place], kl, atol=1e-5)
    assert not found.kl[-1].any()


def test_the_next_token_of_the_text_has_its_probability(decoder):
    given = encode_input(decoder, TEXT)
    expected = reference_logs(decoder.path, list(given.token_ids), "decoder")
    found = logit_lens(decoder, TEXT).next_probabilities
    t, following = 2, given.token_ids[3]
    np.testing.assert_allclose(found[:, t], [np.exp(logs[t, following]) for logs in expected], rtol=1e-4)
    assert np.isnan(found[:, -1]).all()


def test_the_last_place_of_an_encoder_decoder_is_its_output(random_models):
    pair = random_models["encoder-decoder"]
    given = encode_input(pair, TEXT, "a red tree")
    states = residual_stream(pair, given)
    decoder = pair.network.config.decoder
    assert states.shape == (decoder.n_layers + 1, len(given.token_ids), decoder.d_model)
    torch.testing.assert_close(read_out(pair.network, states[-1]), run(pair, given))
    found = logit_lens(pair, given)
    assert found.tokens == given.tokens
    assert (found.kl[:-1] > 0).all()


def test_many_positions_are_read_in_chunks(decoder, monkeypatch):
    whole = logit_lens(decoder, TEXT)
    monkeypatch.setattr("parakit.inspection.lenses.logit_lens.CHUNK", 3)
    parts = logit_lens(decoder, TEXT)
    np.testing.assert_array_equal(parts.top_ids, whole.top_ids)
    np.testing.assert_allclose(parts.kl, whole.kl, atol=1e-6)


def test_a_model_without_an_output_matrix_is_refused(embedder_of_bert):
    with pytest.raises(UserError, match="no output matrix"):
        logit_lens(embedder_of_bert, TEXT)


@pytest.fixture
def embedder_of_bert(encoder: Model) -> Model:
    from parakit.model.config import EmbedderConfig
    from parakit.model.heads import Embedder

    config = encoder.network.config
    assert isinstance(config, EncoderConfig)
    return Model(Embedder(config, EmbedderConfig()).eval(), encoder.tokenizer)


def test_translators_of_zeros_are_the_logit_lens(decoder):
    plain = logit_lens(decoder, TEXT)
    identity = TunedLens.identity(2, 32)
    np.testing.assert_array_equal(logit_lens(decoder, TEXT, translator=identity).kl, plain.kl)


TRAINED = TunedLensConfig(max_steps=40, seq_len=16, positions_per_step=8, learning_rate=0.005)


@pytest.mark.parametrize("family", ["decoder", "encoder", "encoder-decoder"])
def test_training_brings_every_layer_closer_to_the_output(family, random_models, text, tmp_path):
    model = random_models[family]
    lens = train_tuned_lens(model, [str(text)], tmp_path / "lens", config=TRAINED)
    before, after = (np.array(lens.figures[key]) for key in ("kl_logit_lens", "kl_tuned_lens"))
    assert (after[:-1] < before[:-1]).all()
    assert before[-1] == after[-1] == 0
    assert not list(tmp_path.glob("lens.training-*"))
    again = load_tuned_lens(tmp_path / "lens", model)
    assert torch.equal(again.weight, lens.weight)
    assert logit_lens(model, TEXT, translator=again).tuned
    assert all(parameter.requires_grad for parameter in model.network.parameters())


def test_an_interrupted_training_resumes_exactly(decoder, text, tmp_path, monkeypatch):
    whole = train_tuned_lens(decoder, [str(text)], tmp_path / "whole", config=TRAINED)
    original, steps = tuned_lens._State.step, []

    def step(self, *arguments):
        if len(steps) == 23:
            raise KeyboardInterrupt
        steps.append(1)
        return original(self, *arguments)

    monkeypatch.setattr(tuned_lens, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(tuned_lens._State, "step", step)
    with pytest.raises(KeyboardInterrupt):
        train_tuned_lens(decoder, [str(text)], tmp_path / "lens", config=TRAINED)
    monkeypatch.setattr(tuned_lens._State, "step", original)
    assert len(list(tmp_path.glob("lens.training-*.safetensors"))) == 1
    resumed = train_tuned_lens(decoder, [str(text)], tmp_path / "lens", config=TRAINED)
    assert torch.equal(resumed.weight, whole.weight)
    assert torch.equal(resumed.bias, whole.bias)


def test_translators_of_another_model_are_refused(decoder, encoder, text, tmp_path):
    config = TRAINED.replace(max_steps=1)
    train_tuned_lens(decoder, [str(text)], tmp_path / "lens", config=config)
    with pytest.raises(UserError, match="other weights"):
        load_tuned_lens(tmp_path / "lens", encoder)
    with pytest.raises(UserError, match="exists already"):
        train_tuned_lens(decoder, [str(text)], tmp_path / "lens", config=config)


def test_a_text_without_two_windows_is_refused(decoder, tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("the bird")
    with pytest.raises(UserError, match="has 0 windows of 96 tokens"):
        train_tuned_lens(decoder, [str(short)], tmp_path / "lens")
