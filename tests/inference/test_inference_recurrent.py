"""Generation with recurrent layers: their state follows rows of different lengths, finished rows, and beams."""

import pytest
import torch

from parakit.inference.config import BeamConfig, SamplingConfig
from parakit.inference.generation.beam_search import beam_search
from parakit.inference.generation.decoding import generate_ids, stream_ids
from parakit.inference.generation.kv_cache import KVCache
from parakit.inference.generation.steps.model_steps import decode_step, prefill
from parakit.model.heads import LanguageModel
from tests.model.test_model_gated_delta import HYBRID, RULE, model_of

LAST_RECURRENT, LAST_FULL = HYBRID, HYBRID.replace(delta_rule={**RULE, "layers": (0, 1)})
CONFIGS = pytest.mark.parametrize("config", [LAST_RECURRENT, LAST_FULL], ids=["last recurrent", "last full"])


def prompts_of(*lengths: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(4)
    return [torch.randint(0, 50, (n,), generator=generator).tolist() for n in lengths]


@CONFIGS
def test_rows_of_different_lengths_are_completed_as_alone(config):
    model, prompts = model_of(config), prompts_of(1, 9, 70, 3)
    greedy = SamplingConfig(temperature=0.0, max_new_tokens=12)
    together = generate_ids(model, prompts, greedy)
    assert together == [generate_ids(model, [prompt], greedy)[0] for prompt in prompts]
    assert together[2] == list(stream_ids(model, prompts[2], greedy))
    stop = together[1][4]  # rows that finish leave, and others take their places
    stopped = generate_ids(model, prompts, greedy, [stop])
    assert stopped == [row[: row.index(stop) + 1] if stop in row else row for row in together]


@CONFIGS
@torch.inference_mode()
def test_steps_and_chunks_give_the_logits_of_a_whole_pass(config):
    model, prompts = model_of(config), prompts_of(5, 8)
    cache = KVCache(config, 2, 64)
    prefill(model, cache, [prompts[0][:2], prompts[1][:7]])
    logits = prefill(model, cache, [prompts[0][2:], prompts[1][7:]])  # behind a filled cache
    for row, prompt in enumerate(prompts):
        torch.testing.assert_close(logits[row], model(torch.tensor([prompt]))[0, -1], atol=2e-5, rtol=1e-4)
    cache.select([1, 1, 0])
    logits = decode_step(model, cache, torch.tensor([4, 5, 6]))
    for row, tokens in enumerate(([*prompts[1], 4], [*prompts[1], 5], [*prompts[0], 6])):
        torch.testing.assert_close(logits[row], model(torch.tensor([tokens]))[0, -1], atol=2e-5, rtol=1e-4)
    with pytest.raises(AssertionError, match="state"):
        cache.truncate([1, 1, 1])


@CONFIGS
def test_beams_are_scored_as_by_whole_passes(config):
    model: LanguageModel = model_of(config)
    (prompt,) = prompts_of(6)
    found = beam_search(model, [prompt], BeamConfig(n_beams=3, max_new_tokens=5, length_penalty=1.0))[0]
    for beam in found[:2]:
        with torch.inference_mode():
            logits = model(torch.tensor([[*prompt, *beam.token_ids]]))[0].log_softmax(-1)
        picked = logits[len(prompt) - 1 : -1].gather(1, torch.tensor(beam.token_ids)[:, None]).sum()
        assert abs(picked.item() - beam.score * len(beam.token_ids)) < 1e-3
