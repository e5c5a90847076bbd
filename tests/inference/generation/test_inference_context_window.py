"""Prompts over the context window: refused with both numbers, or cut at the beginning with a count."""

from __future__ import annotations

import pytest

from parakit.common.errors import UserError
from parakit.inference.config import SamplingConfig
from parakit.inference.engine import Engine, EngineConfig, Request
from parakit.inference.generation.completion import prompt_ids
from parakit.inference.generation.context_window import fit_prompt
from parakit.inference.generation.text import generate, generate_batch
from parakit.tokens.tokenizer.special_tokens_template import text_boundaries

LONG = "the small bird sees a red tree " * 20
DROPS = SamplingConfig(temperature=0.0, max_new_tokens=6, when_full="drop_oldest")


def test_a_text_loses_its_first_tokens_and_never_those_around_it(tiny_chat_model):
    model, tokenizer = tiny_chat_model
    window, whole = model.config.max_seq_len, prompt_ids(tokenizer, LONG)
    before = text_boundaries(tokenizer)[0]
    assert before, "the test needs a tokenizer with BOS"
    fitted = fit_prompt(tokenizer, LONG, DROPS, window)
    assert len(fitted.token_ids) == window - DROPS.max_new_tokens
    assert fitted.token_ids[: len(before)] == list(before)
    assert fitted.token_ids[len(before) :] == whole[len(whole) - len(fitted.token_ids) + len(before) :]
    assert fitted.n_dropped_tokens == len(whole) - len(fitted.token_ids)
    assert fit_prompt(tokenizer, "the", DROPS, window).n_dropped_tokens == 0


def test_a_conversation_loses_whole_turns_and_never_its_system_prompt_or_last_message(tiny_chat_model):
    model, tokenizer = tiny_chat_model
    turns = [
        message
        for n in range(9)
        for message in (
            {"role": "user", "content": f"bird {n}"},
            {"role": "assistant", "content": "the tree"},
        )
    ]
    system, last = {"role": "system", "content": "sing"}, {"role": "user", "content": "house"}
    fitted = fit_prompt(tokenizer, [system, *turns, last], DROPS, model.config.max_seq_len)
    assert fitted.n_dropped_messages % 2 == 0
    kept = [system, *turns[fitted.n_dropped_messages :], last]
    assert fitted.token_ids == prompt_ids(tokenizer, kept)
    assert len(fitted.token_ids) + DROPS.max_new_tokens <= model.config.max_seq_len
    one_more = [system, *turns[fitted.n_dropped_messages - 2 :], last]
    assert len(prompt_ids(tokenizer, one_more)) + DROPS.max_new_tokens > model.config.max_seq_len


def test_completions_say_how_many_tokens_were_left_out(tiny_chat_model):
    model, tokenizer = tiny_chat_model
    alone = generate(model, tokenizer, LONG, DROPS)
    assert alone.n_dropped_tokens == len(prompt_ids(tokenizer, LONG)) - alone.n_prompt_tokens > 0
    batch = generate_batch(model, tokenizer, ["the", LONG], DROPS)
    engine = Engine(model, tokenizer, EngineConfig())
    handle = engine.submit(Request(prompt=LONG, sampling=DROPS))
    engine.run()
    for other in (batch[1], handle.completions[0]):
        assert (other.text, other.n_dropped_tokens) == (alone.text, alone.n_dropped_tokens)
    assert batch[0].n_dropped_tokens == 0


def test_without_a_policy_both_numbers_and_the_way_out_are_named(tiny_chat_model):
    model, tokenizer = tiny_chat_model
    config = DROPS.replace(when_full="refuse")
    with pytest.raises(UserError, match=r"prompt has \d+ tokens.* 64[^$]*when_full = drop_oldest"):
        generate(model, tokenizer, LONG, config)
    with pytest.raises(UserError, match="context window holds 64"):  # a last message that never fits
        generate(model, tokenizer, [{"role": "user", "content": LONG}], DROPS)
