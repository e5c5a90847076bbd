"""mT5, UMT5, Flan-T5, mBART, Pegasus, M2M100 and NLLB: logits, greedy and beam search, and folders are those of
transformers.
"""

from types import SimpleNamespace

import pytest
import torch

from parakit.checkpoints import load_model, read_config
from parakit.common import CorruptArtifact
from parakit.inference.config import BeamConfig, SamplingConfig
from parakit.inference.generation.published_rules import generation_rules
from parakit.inference.generation.seq_to_seq import beam_search_sequences, generate_sequences
from parakit.model.heads import Embedder, SequenceToSequence
from tests.checkpoints.architectures.encoder_decoder_cases import ENCODER_DECODERS, cases
from tests.checkpoints.conformance import (
    assert_close,
    assert_packed_pairs,
    assert_round_trip,
    cached_pair_logits,
    padding,
    random_ids,
    reference_model,
    saved,
)

transformers = pytest.importorskip("transformers")
OURS = ("separate_head", "forced_bos", "unscaled")


def tiny(name: str, variant: str):
    """A transformers model, tiny and random, as its publisher's version of transformers computes it."""
    case = ENCODER_DECODERS[name]
    settings = {**case.sizes, **case.variants[variant]}
    config = getattr(transformers, f"{case.prefix}Config")(
        **{key: value for key, value in settings.items() if key not in OURS}
    )
    model = reference_model(getattr(transformers, f"{case.prefix}ForConditionalGeneration"), config)
    if case.prefix == "Pegasus":  # a computed table, which is no weight
        for side in (model.model.encoder, model.model.decoder):
            with torch.no_grad():
                side.embed_positions.weight.copy_(side.embed_positions.create_weight())
    if settings.get("separate_head"):  # transformers 5 builds all T5 tied, and loads these untied
        values = torch.randn(config.vocab_size, 32, generator=torch.Generator().manual_seed(4))
        model.lm_head.weight = torch.nn.Parameter(0.3 * values)
    if settings.get("unscaled"):  # transformers 5 takes this key for true, whatever a file has
        model.config.tie_word_embeddings = False
    model.generation_config.forced_bos_token_id = settings.get("forced_bos")
    return model


@torch.no_grad()
def assert_pair_conforms(model, reference, case) -> None:
    """Logits: plain, source padded on either side and target on the right, packed, and through a cache; padding has no
    influence.
    """
    pad = reference.config.pad_token_id
    sources, targets = random_ids(97, 3, 20), random_ids(97, 3, 16, seed=5)
    wanted = reference(input_ids=sources, decoder_input_ids=targets).logits
    assert_close(model(sources, targets), wanted)
    assert_close(cached_pair_logits(model, sources, targets, None), wanted)
    real_targets = padding([16, 9, 1], "right")
    for side in ("right", "left"):
        real = padding([20, 13, 1], side)
        padded, padded_targets = sources.masked_fill(~real, pad), targets.masked_fill(~real_targets, pad)
        positions = (real.cumsum(1) - 1).clamp(min=0) if case.positions_after_padding else None

        def logits(source_ids, target_ids, real=real, positions=positions):
            source = model.encode(source_ids, attention_mask=real, position_ids=positions)
            context = {"source": source, "source_mask": real, "attention_mask": real_targets}
            return model.logits(model.hidden(target_ids, **context))

        got = logits(padded, padded_targets)
        wanted = reference(
            input_ids=padded,
            attention_mask=real.long(),
            decoder_input_ids=padded_targets,
            decoder_attention_mask=real_targets.long(),
        ).logits
        assert_close(got[real_targets], wanted[real_targets])
        elsewhere = random_ids(97, 3, 20, seed=6).where(~real, sources)
        assert torch.equal(logits(elsewhere, targets)[real_targets], got[real_targets])
    assert_packed_pairs(model, reference, sources[:1], targets[:1], ((7, 5, 8), (5, 7, 4)))


@torch.no_grad()
def assert_same_tokens(model, reference) -> None:
    """Greedily and with beams, sources of different lengths in one batch, under the folder's generation settings: the
    tokens of transformers' `generate`, none of which is PAD or the start token.
    """
    settings = reference.generation_config
    pad, start = reference.config.pad_token_id, model.config.decoder_start_id
    rules = generation_rules(model, SimpleNamespace(eos_id=settings.eos_token_id, pad_id=pad))
    mask = padding([15, 8, 3], "right")
    sources = random_ids(97, 3, 15, seed=8).masked_fill(~mask, pad)
    rows = [row[real].tolist() for row, real in zip(sources, mask, strict=True)]
    eos, n_new = settings.eos_token_id, 20

    def wanted(n_beams: int, **more) -> list[list[int]]:
        found = reference.generate(
            sources,
            attention_mask=mask.long(),
            max_new_tokens=n_new,
            do_sample=False,
            num_beams=n_beams,
            suppress_tokens=list(rules.suppress_ids),
            **more,
        )
        return [cut_after(row[1:].tolist(), eos) for row in found]

    greedy = SamplingConfig(temperature=0.0, max_new_tokens=n_new)
    got = generate_sequences(model, rows, greedy, (eos,), rules=rules)
    assert got == wanted(1)
    assert not {pad, start} - {eos} & {token for row in got for token in row}
    if settings.forced_bos_token_id is not None:
        assert {row[0] for row in got} == {settings.forced_bos_token_id}
    beams = BeamConfig(n_beams=3, max_new_tokens=n_new)
    best = [found[0].token_ids for found in beam_search_sequences(model, rows, beams, (eos,), rules=rules)]
    assert best == wanted(3, length_penalty=1.0, early_stopping=False)


def cut_after(ids: list[int], eos: int) -> list[int]:
    """`ids` up to and with their first `eos`."""
    return ids[: ids.index(eos) + 1] if eos in ids else ids


@pytest.mark.parametrize(("name", "variant"), cases())
def test_logits_tokens_and_folders_are_those_of_transformers(tmp_path, name, variant):
    case, reference = ENCODER_DECODERS[name], tiny(name, variant)
    folder = saved(reference, tmp_path / "f")
    model, tokenizer = load_model(folder)
    assert tokenizer is None
    assert isinstance(model, SequenceToSequence)
    assert model.config.tie_embeddings == (not case.variants[variant].get("separate_head"))
    assert model.config.n_params()["total"] == sum(p.numel() for p in model.parameters())
    assert_pair_conforms(model, reference, case)
    assert_same_tokens(model, reference)
    ids = {"input_ids": random_ids(97, 2, 20), "decoder_input_ids": random_ids(97, 2, 9, seed=5)}

    def logits(hf_model):
        hf_model.config.tie_word_embeddings = reference.config.tie_word_embeddings
        return hf_model(**ids).logits

    assert_round_trip(reference, folder, tmp_path / "g", logits)
    assert read_config(tmp_path / "g") == read_config(folder) == model.config


@pytest.mark.parametrize("prefix", [case.prefix for case in ENCODER_DECODERS.values() if case.is_t5])
def test_the_encoder_alone_is_an_embedder(tmp_path, prefix):
    case = next(case for case in ENCODER_DECODERS.values() if case.prefix == prefix)
    config = getattr(transformers, f"{prefix}Config")(**case.sizes)
    reference = reference_model(getattr(transformers, f"{prefix}EncoderModel"), config)
    folder = saved(reference, tmp_path / "f")
    model, _ = load_model(folder)
    assert isinstance(model, Embedder)
    ids, mask = random_ids(97, 3, 20), padding([20, 13, 1], "left")
    with torch.no_grad():
        got, wanted = model.trunk(ids, attention_mask=mask), reference(ids, attention_mask=mask.long())
        assert_close(got[mask], wanted.last_hidden_state[mask])
    assert_round_trip(reference, folder, tmp_path / "g", lambda m: m(ids).last_hidden_state)


def test_positions_that_are_no_sines_are_refused(tmp_path):
    """transformers would compute with the stored ones."""
    reference = tiny("pegasus", "pegasus-xsum")
    with torch.no_grad():
        reference.model.decoder.embed_positions.weight[3] += 1
    with pytest.raises(
        CorruptArtifact, match=r"decoder\.embed_positions\.weight.*other values than the sines"
    ):
        load_model(saved(reference, tmp_path / "f"))
