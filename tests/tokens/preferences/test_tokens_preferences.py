"""Rankings as ids: prompts shared to the last token, completions whole, batches that are a function of their row."""

from __future__ import annotations

import numpy as np
import pytest

from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Message
from parakit.data.preferences import Ranking
from parakit.tokens.chat.template import compile_chat, response_text
from parakit.tokens.config import TokenizerConfig
from parakit.tokens.preferences.encoding import completion_ids, encode_rankings
from parakit.tokens.preferences.sources import PreferenceSource
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.tokens.tokenizer.training import train_tokenizer

TEXT = "Who found the lamp? Ann found the lamp on day three, and then she went home."


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([TEXT] * 3, TokenizerConfig(vocab_size=300))


def ranking(number: int, n_answers: int = 2) -> Ranking:
    prompt = (Message("system", "Be brief."), Message("user", "Who found the lamp? " * (1 + number % 5)))
    return Ranking(
        prompt,
        tuple(f"Ann{' found it' * k} on day {number}." for k in range(n_answers)),
        margin=float(number),
    )


def test_prompt_and_completion_are_what_the_template_says(tokenizer: Tokenizer) -> None:
    one = ranking(3)
    prompt, answer = completion_ids(tokenizer, one.prompt, one.completions[0])
    whole = compile_chat(tokenizer, one.conversation(0))
    assert prompt == compile_chat(tokenizer, one.prompt, add_generation_prompt=True).token_ids
    assert prompt + answer == whole.token_ids
    assert answer[-1] == tokenizer.turn_ids["end"]
    assert whole.loss_mask == [False] * len(prompt) + [True] * len(answer)


def test_a_template_that_joins_prompt_and_completion_is_refused(tokenizer: Tokenizer) -> None:
    joined = "{%- for m in messages -%}{{ m['content'] }}{%- if not loop.last %} {% endif -%}{%- endfor -%}" \
             "{%- if add_generation_prompt %} so {% endif -%}"  # fmt: skip
    with pytest.raises(UserError, match=r"merges prompt and completion|writes something between"):
        completion_ids(_with_template(tokenizer, joined), [Message("user", "Who")], "Ann")


def _with_template(tokenizer: Tokenizer, template: str) -> Tokenizer:
    return Tokenizer(tokenizer.json, kind=tokenizer.kind, special=tokenizer.special, chat_template=template)


def test_too_long_is_cut_from_the_prompts_left_and_a_completion_never(tokenizer: Tokenizer) -> None:
    rows = [ranking(number) for number in range(10)]
    longest = max(encode_rankings(tokenizer, rows, 10_000).lengths)
    data, whole = encode_rankings(tokenizer, rows, int(longest) - 8), encode_rankings(tokenizer, rows, 10_000)
    assert data.long_rows.n_cut > 0
    assert data.lengths.max() <= longest - 8
    for i in range(data.n_completions):
        actual, expected = data.sequence(i), whole.sequence(i)
        n_prompt, n_answer = data.prompt_lengths[i], len(expected) - whole.prompt_lengths[i]
        assert len(actual) - n_prompt == n_answer
        np.testing.assert_array_equal(actual[1:], expected[-(len(actual) - 1) :])
        assert actual[0] == tokenizer.bos_id


def test_a_completion_without_room_is_counted_and_left_out(tokenizer: Tokenizer) -> None:
    long = Ranking((Message("user", "Who?"),), ("Ann " * 60, "Bob"))
    data = encode_rankings(tokenizer, [ranking(0), long], 60)
    assert (data.n_examples, data.long_rows.n_lost) == (1, 1)
    assert "1 left out, whose completions leave no room for a prompt" in data.long_rows.lines()[0]
    dropped = encode_rankings(tokenizer, [ranking(0), long, ranking(1)], 60, too_long="drop")
    assert (dropped.n_examples, dropped.long_rows.n_left_out) == (2, 1)
    with pytest.raises(UserError, match=r"1 of 2 rankings have over 60 tokens.*the first is row 2"):
        encode_rankings(tokenizer, [ranking(0), long], 60, too_long="refuse")
    with pytest.raises(UserError, match="none of 1 ranking can be learned from within 5 tokens"):
        encode_rankings(tokenizer, [ranking(0)], 5)


def test_batches_are_a_function_of_their_rows(tokenizer: Tokenizer) -> None:
    data = encode_rankings(tokenizer, (ranking(n, 2 + n % 3) for n in range(13)), 10_000)
    source = PreferenceSource(data, 7, np.arange(data.n_completions, dtype=np.float32), n_rows_hint=4)
    whole = source.rows(0, 26)
    seen = [round(float(margin)) for margin in whole.margins]
    assert sorted(seen[:13]) == sorted(seen[13:]) == list(range(13))
    part = source.rows(5, 3)
    np.testing.assert_array_equal(part.margins, whole.margins[5:8])
    assert whole.reference is not None
    assert part.reference is not None
    np.testing.assert_array_equal(part.reference, whole.reference[5:8, : part.reference.shape[1]])
    other = PreferenceSource(data, 8, n_rows_hint=4).rows(0, 13)
    assert other.margins.tolist() != whole.margins[:13].tolist()


def test_a_batch_holds_every_completion_best_first(tokenizer: Tokenizer) -> None:
    rankings = [ranking(0, 2), ranking(1, 4)]
    batch = PreferenceSource(encode_rankings(tokenizer, rankings, 10_000), 0).batch_of([0, 1])
    assert batch.real_mask.any(-1).tolist() == [[True, True, False, False], [True] * 4]
    assert batch.n_counted == 2
    for row, one in enumerate(rankings):
        for place, answer in enumerate(one.completions):
            real, counted = batch.real_mask[row, place], batch.loss_mask[row, place]
            ids = [int(batch.input_ids[row, place, 0]), *batch.target_ids[row, place][real].tolist()]
            assert ids == compile_chat(tokenizer, one.conversation(place)).token_ids
            counted_ids = batch.target_ids[row, place][counted].tolist()
            assert response_text(tokenizer, counted_ids[:-1]) == answer
            assert not counted[~real].any()
