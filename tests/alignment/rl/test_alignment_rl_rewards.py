"""Rewards: what counts as right, and what happens when a reward fails."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from parakit.alignment.rl.model_reward import ModelReward
from parakit.alignment.rl.prompts import SampledCompletion
from parakit.alignment.rl.reward import RewardError, compute_rewards
from parakit.alignment.rl.rewards import FunctionReward, parse_reward
from parakit.checkpoints.model_folder import save_model
from parakit.common.artifacts import Lineage
from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Message
from parakit.model import DecoderConfig, RewardModel
from parakit.tokens.chat.template import compile_chat
from tests.alignment.rl.tiny_policy import tiny_tokenizer

ASKED = (Message("user", "What is 7 + 5?"),)


def sample(completion: str, answer: str | None = "7 + 5 = 12. The answer is 12.") -> SampledCompletion:
    return SampledCompletion(ASKED, answer, completion)


@pytest.mark.parametrize(
    ("name", "completion", "wanted"),
    [
        ("final_answer", "7 + 5 = 12.", 1.0),
        ("final_answer", "12 or 13", 0.0),
        ("final_answer", "I don't know", 0.0),
        ("exact_answer", "7 + 5 = 12. The answer is 12", 1.0),
        ("exact_answer", "12", 0.0),
        ("contains_answer", "So: 7 + 5 = 12. the answer is 12. Good.", 1.0),
        ("contains_answer", "the answer is 12", 0.0),
        ("format=.*The answer is \\d+\\.", "7 + 5 = 12. The answer is 12.", 1.0),
        ("format=.*The answer is \\d+\\.", "12", 0.0),
        ("length=4", "one two three four", 0.0),
        ("length=4", "one two", -0.5),
    ],
)
def test_built_in_rewards(name: str, completion: str, wanted: float) -> None:
    assert parse_reward(name)([sample(completion)]) == [wanted]


def test_a_function_of_the_users_is_imported_by_its_name() -> None:
    """It is given messages, completion and answer."""
    reward = parse_reward(f"python={__name__}:judge")
    assert reward([sample("abc"), sample("abcd")]) == [3.0, 4.0]


def judge(messages: list[dict[str, str]], completion: str, answer: str | None) -> float:
    assert messages == [{"role": "user", "content": "What is 7 + 5?"}]
    assert answer is not None
    return float(len(completion))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("final_anwser", "built-in rewards: "),
        ("format=(", "not a regular expression"),
        ("length=few", "not a number of words"),
        ("python=json", "names no function"),
        ("python=no.such.module:f", "cannot be imported"),
        ("python=json:nothing", "cannot be imported"),
        ("python=json:__name__", "not a function"),
    ],
)
def test_a_reward_that_is_not_known_is_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_reward(name)


def test_a_reward_that_raises_names_prompt_completion_and_itself() -> None:
    with pytest.raises(RewardError) as error:
        compute_rewards(FunctionReward("mine", lambda s: 1 / 0), [sample("twelve")])
    for part in ("'mine'", "ZeroDivisionError", "What is 7 + 5?", "twelve"):
        assert part in str(error.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_reward_that_is_no_number_names_prompt_completion_and_itself(value: float) -> None:
    with pytest.raises(RewardError) as error:
        compute_rewards(FunctionReward("mine", lambda s: value), [sample("twelve")])
    for part in ("'mine'", str(value), "What is 7 + 5?", "twelve"):
        assert part in str(error.value)


def test_a_missing_answer_and_a_wrong_number_of_rewards_are_errors() -> None:
    with pytest.raises(RewardError, match="needs a reference answer"):
        parse_reward("final_answer")([sample("12", None)])

    class Short:
        name = "short"

        def __call__(self, samples: object) -> list[float]:
            return [1.0]

    with pytest.raises(RewardError, match="returned 1 numbers for 2 completions"):
        compute_rewards(Short(), [sample("a"), sample("b")])


def test_a_learnt_reward_reads_prompt_and_completion_through_the_template(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = DecoderConfig(
        vocab_size=tokenizer.vocab_size, d_model=16, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=8, d_ff=24,
        max_seq_len=48,
    )  # fmt: skip
    model = RewardModel(config).eval()
    torch.nn.init.normal_(model.reward_head.weight)
    save_model(model, tokenizer, tmp_path / "reward", Lineage("model", {}))
    reward = parse_reward(str(tmp_path / "reward"))
    assert isinstance(reward, ModelReward)
    found = reward([sample("12"), sample("it is twelve")])
    for completion, value in zip(("12", "it is twelve"), found, strict=True):
        ids = compile_chat(tokenizer, [*ASKED, Message("assistant", completion)]).token_ids
        assert value == pytest.approx(model(torch.tensor([ids])).item(), abs=1e-5)
    with pytest.raises(UserError, match="the context window has 48 tokens"):
        reward([sample("word " * 60)])
    messages = (Message("user", "word " * 60),)
    whole = compile_chat(tokenizer, [*messages, Message("assistant", "12")]).token_ids
    assert len(whole) > 48
    kept = [whole[0], *whole[-47:]]
    (value,) = reward([SampledCompletion(messages, None, "12")])
    assert value == pytest.approx(model(torch.tensor([kept])).item(), abs=1e-5), (
        "a long prompt loses its beginning"
    )


class Called:
    async def __call__(self, messages: object, completion: str, answer: str | None) -> float:
        return 1.0


async def awaited(messages: object, completion: str, answer: str | None) -> float:
    return 1.0


def yielded(messages: object, completion: str, answer: str | None) -> Iterator[float]:
    yield 1.0


async def both(messages: object, completion: str, answer: str | None) -> AsyncIterator[float]:
    yield 1.0


def of_two(completion: str, answer: str | None) -> float:
    return 1.0


instance = Called()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("awaited", "is async"),
        ("instance", "is async"),
        ("yielded", "is a generator"),
        ("both", "is a generator"),
        ("of_two", "cannot be called with (messages, completion, answer): too many positional arguments"),
        ("Called", "is a class"),
    ],
)
def test_a_function_that_can_give_no_number_is_refused_before_training(name: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_reward(f"python={__name__}:{name}")
    assert told in caught.value.message


def test_a_module_that_raises_while_it_is_imported_is_named(tmp_path, monkeypatch) -> None:
    (tmp_path / "broken_reward.py").write_text("def f(a, b, c): return 1\n1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="importing broken_reward raised ZeroDivisionError"):
        parse_reward("python=broken_reward:f")


NO_NUMBERS: list[tuple[Callable[[], object], str]] = [
    (lambda: None, "returned None"),
    (lambda: awaited([], "", ""), "returned a coroutine (it is async"),
    (lambda: yielded([], "", ""), "returned a generator"),
    (lambda: math.nan, "returned nan"),
    (lambda: -math.inf, "returned -inf"),
    (lambda: "0.5", "returned '0.5'"),
    (lambda: b"1", "returned b'1'"),
    (lambda: "long " * 40, "returned a str of 200 characters"),
    (lambda: [0.5], "returned a list"),
    (lambda: (1.0, "why"), "returned a tuple"),
    (lambda: {"score": 1.0}, "returned a dict"),
    (lambda: np.array([0.5, 1.0]), "returned a ndarray"),
    (lambda: torch.tensor([0.5, 1.0]), "returned a Tensor"),
    (lambda: 1j, "returned a complex"),
    (lambda: 10**5000, "returned an int of 16,610 bits"),
]


@pytest.mark.parametrize(("make", "told"), NO_NUMBERS, ids=[told for _, told in NO_NUMBERS])
@pytest.mark.parametrize("as_function", [True, False])
def test_what_is_no_finite_number_is_named_as_what_it_is(
    make: Callable[[], object], told: str, as_function: bool
) -> None:
    class Scorer:
        name = "own"

        def __call__(self, samples: object) -> list[object]:
            return [make()]

    reward: Any = FunctionReward("own", lambda _: make()) if as_function else Scorer()
    with pytest.raises(RewardError) as caught:
        compute_rewards(reward, [sample("12")])
    assert told in caught.value.message
    assert "prompt 'What is 7 + 5?', completion '12'" in caught.value.message


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (None, "returned None for 2 completions"),
        (1.0, "returned 1.0 for 2 completions"),
        ("ab", "returned 'ab' for 2 completions"),
        ([1.0], "returned 1 numbers for 2 completions"),
        ([1.0, 2.0, 3.0], "returned 3 numbers for 2 completions"),
    ],
)
def test_another_count_of_numbers_is_named(returned: object, told: str) -> None:
    class Scorer:
        name = "own"

        def __call__(self, samples: object) -> object:
            return returned

    with pytest.raises(RewardError) as caught:
        compute_rewards(Scorer(), [sample("12"), sample("13")])  # type: ignore[arg-type]
    assert told in caught.value.message


@pytest.mark.parametrize(
    "value", [1, True, 0.5, np.float32(0.5), np.int64(2), np.array(1.5), torch.tensor(0.5), Fraction(1, 2)]
)
def test_every_kind_of_number_is_one(value: Any) -> None:
    assert compute_rewards(FunctionReward("own", lambda _: value), [sample("12")]) == [float(value)]
