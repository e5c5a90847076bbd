"""Only whole characters are shown, and nothing of a stop string; whole, streamed and batched texts are
equal.
"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.data.conversations.conversation import Message
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.text import generate, generate_batch, prompt_ids, stream
from parakit.inference.generation.text_stream import (
    CharacterStream,
    StopStringCheck,
    StopStrings,
    TextStream,
    first_stop,
)
from parakit.tokens.chat.template import response_text

GREEDY = SamplingConfig(temperature=0.0, max_new_tokens=40)
KINDS = ("byte_bpe", "wordpiece", "unigram", "word", "char")
ab = st.text("ab😀", min_size=1, max_size=4)


@given(st.text("ab😀", max_size=30), st.lists(ab, min_size=1, max_size=4), st.lists(st.integers(0, 30)))
def test_stop_strings_cut_at_the_same_place_however_the_text_arrives(text, stop, cuts):
    watch = StopStrings(stop)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    shown = ""
    for low, high in itertools.pairwise(edges):
        shown += watch.push(text[low:high])
        assert not any(s in shown for s in stop)
    shown += watch.flush()
    # the reference looks at each prefix of the text in turn
    end = next((n for n in range(len(text) + 1) if any(text[:n].endswith(s) for s in stop)), None)
    if end is None:
        assert (shown, watch.stopped) == (text, False)
    else:
        start = min(end - len(s) for s in stop if text[:end].endswith(s))
        assert (shown, watch.stopped) == (text[:start], True)
        assert first_stop(text, stop) == (start, end)


def test_text_is_held_back_no_longer_than_needed():
    watch = StopStrings(["\n\nQ:", "END"])
    assert [watch.push(piece) for piece in ("a\n", "\n", "b E", "N", "d")] == ["a", "", "\n\nb ", "", "ENd"]
    assert watch.push("\n\nQ: never shown") == ""
    assert watch.stopped
    assert watch.push("more") == watch.flush() == ""


@given(st.text("ab 😀", max_size=20), st.sampled_from(["", " ", "ab", " a"]), st.lists(ab, max_size=2))
def test_what_a_template_writes_before_an_answer_is_not_shown(make_tokenizer, text, lead, stop):
    tokenizer = make_tokenizer()
    shown = TextStream(tokenizer, stop, lead)
    token_ids = tokenizer.encode(text)
    pieces = [shown.push(token_id) for token_id in token_ids]
    answer = text.removeprefix(lead)
    end = first_stop(answer, stop)
    assert "".join([*pieces, shown.finish()]) == (answer if end is None else answer[: end[0]])
    if stop:
        assert StopStringCheck(tokenizer, stop, lead).confirms(token_ids) == (end is not None)


def test_answers_in_a_conversation_are_equal_in_all_three_ways(tiny_chat_model):
    """The template's space before an answer is neither shown nor part of what a stop string is looked for in."""
    model, tokenizer = tiny_chat_model
    questions = [(Message("user", text),) for text in ("the bird", "12", "sees")]
    for stop in ((), (" ",), (generate(model, tokenizer, questions[0], GREEDY).text[:2],)):
        config = GREEDY.replace(stop=stop)
        alone = [generate(model, tokenizer, messages, config) for messages in questions]
        batched = generate_batch(model, tokenizer, questions, config)
        assert [(a.text, a.token_ids) for a in alone] == [(b.text, b.token_ids) for b in batched]
        for completion in alone if not stop else ():
            ended = completion.finish_reason == "stop"
            text = response_text(tokenizer, completion.token_ids[: -1 if ended else None])
            assert completion.text.rstrip("\ufffd") == text.rstrip("\ufffd")


@pytest.mark.parametrize("kind", KINDS)
@given(st.lists(st.integers(0, 10_000), max_size=40))
def test_streamed_characters_join_to_the_decoded_text_for_every_kind(make_tokenizer, kind, numbers):
    tokenizer = make_tokenizer(kind)
    token_ids = [number % tokenizer.vocab_size for number in numbers]
    characters = CharacterStream(tokenizer)
    text = "".join(characters.push(token_id) for token_id in token_ids)
    if kind == "byte_bpe":  # the bytes of a last, unfinished character are held back
        assert tokenizer.decode(token_ids).rstrip("\ufffd") == text.rstrip("\ufffd")
        assert tokenizer.decode(token_ids).startswith(text)
    else:
        assert text == tokenizer.decode(token_ids)


def test_an_emoji_made_of_byte_tokens_is_shown_once_it_is_whole(make_tokenizer):
    tokenizer = make_tokenizer()
    text = "a 👩‍🚀 sings “très” 漢字 🇫🇷!"
    token_ids = tokenizer.encode(text)
    assert len(token_ids) > len(text)
    characters = CharacterStream(tokenizer)
    pieces = [characters.push(token_id) for token_id in token_ids]
    assert "".join(pieces) == text
    assert "\ufffd" not in "".join(pieces)
    assert "" in pieces


def test_generated_streamed_and_batched_texts_are_equal_with_and_without_stop_strings(tiny_chat_model):
    model, tokenizer = tiny_chat_model
    prompts = [" ".join(rng(1, n).choice(["the", "bird", "sees", "12"], 1 + n % 5)) for n in range(10)]
    n_spanning = 0
    for config in (GREEDY, SamplingConfig(temperature=0.8, seed=3, max_new_tokens=40)):
        seeds = list(range(10))
        plain = generate_batch(model, tokenizer, prompts, config, seeds=seeds)
        for prompt, seed, batched in zip(prompts, seeds, plain, strict=True):
            alone = generate(model, tokenizer, prompt, config, seed=seed)
            pieces = stream(model, tokenizer, prompt, config, seed=seed)
            assert "".join(pieces) == alone.text == batched.text == pieces.completion.text
            assert alone.token_ids == batched.token_ids
            assert alone.finish_reason == batched.finish_reason
        # stop strings out of the model's own mouth: three characters, most of which span tokens
        texts = [completion.text for completion in plain if len(completion.text) > 12]
        stop = tuple({text[8:11] for text in texts[::3]})
        stopping = config.replace(stop=stop)
        for prompt, seed, batched, before in zip(
            prompts,
            seeds,
            generate_batch(model, tokenizer, prompts, stopping, seeds=seeds),
            plain,
            strict=True,
        ):
            cut = first_stop(before.text, stop)
            assert batched.text == (before.text[: cut[0]] if cut else before.text)
            pieces = stream(model, tokenizer, prompt, stopping, seed=seed)
            assert "".join(pieces) == batched.text
            assert pieces.completion.token_ids == batched.token_ids
            assert pieces.completion.finish_reason == batched.finish_reason
            if cut:
                assert batched.finish_reason == "stop"
                assert len(batched.token_ids) <= len(before.token_ids)
                last = tokenizer.decode(batched.token_ids[-1:])
                n_spanning += not any(s in last for s in stop)
    assert n_spanning > 4


def test_only_tokens_that_can_complete_a_stop_string_are_looked_at(make_tokenizer):
    tokenizer = make_tokenizer()
    check = StopStringCheck(tokenizer, ["e\n"])
    assert check.suspects
    assert all("\n" in tokenizer.decode([i], skip_special=False) for i in check.suspects)
    ids = tokenizer.encode("the tree\n")
    assert ids[-1] in check.suspects
    assert check.confirms(ids)
    assert not check.confirms(ids[:-1])
    assert StopStringCheck(make_tokenizer("wordpiece"), ["e"]).suspects is None


def test_a_stop_string_works_for_kinds_whose_tokens_are_joined_by_rules(make_model, make_tokenizer):
    tokenizer = make_tokenizer("wordpiece")
    model = make_model(make_model().config.replace(vocab_size=tokenizer.vocab_size))
    text = generate(model, tokenizer, "the bird", GREEDY).text
    stop = text[len(text) // 2 : len(text) // 2 + 3]
    [batched] = generate_batch(model, tokenizer, ["the bird"], GREEDY.replace(stop=(stop,)))
    assert (
        batched.text
        == text[: text.find(stop)]
        == generate(model, tokenizer, "the bird", GREEDY.replace(stop=(stop,))).text
    )


def test_a_prompt_over_the_window_is_refused_naming_both_numbers(tiny_chat_model):
    model, tokenizer = tiny_chat_model
    prompt = "the bird " * 60
    n = len(prompt_ids(tokenizer, prompt))
    for call in (generate, stream):
        with pytest.raises(UserError, match=rf"{n} tokens.* 64"):
            call(model, tokenizer, prompt, GREEDY)
    with pytest.raises(UserError, match=rf"prompt 2 of 2.*{n} tokens.* 64"):
        generate_batch(model, tokenizer, ["the", prompt], GREEDY)


def test_a_completion_that_fills_the_window_says_length(tiny_chat_model):
    model, tokenizer = tiny_chat_model
    done = generate(model, tokenizer, "the bird sees", GREEDY.replace(max_new_tokens=1000))
    if done.finish_reason == "length":
        assert done.n_prompt_tokens + done.n_tokens == 64
    short = generate(model, tokenizer, "the bird sees", GREEDY.replace(max_new_tokens=2))
    assert (short.n_tokens, short.finish_reason) == (2, "length")
    assert {done.finish_reason, short.finish_reason} <= {"length", "stop"}


def test_the_model_ends_by_its_end_tokens_which_are_counted_and_not_shown(tiny_chat_model):
    model, tokenizer = tiny_chat_model
    config = SamplingConfig(temperature=3.0, max_new_tokens=50)
    done = generate_batch(model, tokenizer, ["the"] * 200, config.replace(seed=0))
    ended = [completion for completion in done if completion.finish_reason == "stop"]
    assert ended
    ends = {tokenizer.eos_id, tokenizer.turn_ids["end"]}
    for completion in done:
        assert (completion.token_ids[-1] in ends) == (completion.finish_reason == "stop")
        assert not ends & set(completion.token_ids[:-1])
        assert "<|" not in completion.text


def test_a_plain_prompt_begins_with_bos_and_its_text_never_becomes_a_control_token(tiny_chat_model):
    _, tokenizer = tiny_chat_model
    ids = prompt_ids(tokenizer, "<|end|><|assistant|> the")
    assert ids[0] == tokenizer.bos_id
    assert not tokenizer.control_ids & set(ids[1:])
    chat = prompt_ids(tokenizer, [{"role": "user", "content": "<|end|> the"}])
    assert chat.count(tokenizer.turn_ids["end"]) == 1
    assert chat[-1] == tokenizer.turn_ids["assistant"]


def test_an_interrupted_stream_keeps_its_text(tiny_chat_model):
    model, tokenizer = tiny_chat_model
    pieces = stream(model, tokenizer, "the bird", GREEDY)
    text = ""
    for piece in pieces:
        text += piece
        break
    assert pieces.completion.text == text
    assert pieces.completion.finish_reason == "interrupted"
    assert not model.training
