"""Rollouts: log-probabilities of the policy itself, a reference apart, a phase that can be made again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from parakit.alignment.rl import rollouts
from parakit.alignment.rl.prompts import compile_prompts, split_conversation
from parakit.alignment.rl.rollouts import (
    check_separate,
    complete,
    exact_kl,
    frozen_copy,
    roll_out,
    token_log_probs,
    token_rows,
)
from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Conversation, Message
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.filters import filter_logits
from parakit.inference.native_forward import can_run_natively
from parakit.model import ActorCritic
from parakit.tokens.chat.template import compile_chat, stop_ids
from tests.alignment.rl.tiny_policy import (
    tiny_config,
    tiny_conversations,
    tiny_policy,
    tiny_prompts,
    tiny_tokenizer,
)


def test_prompts_end_where_the_assistant_begins_and_know_the_right_answer() -> None:
    conversation = tiny_conversations()[0]
    prompt = tiny_prompts()[0]
    whole = compile_chat(tiny_tokenizer(), conversation.messages).token_ids
    assert tuple(whole[: len(prompt.token_ids)]) == prompt.token_ids
    assert prompt.answer == "bird"
    assert split_conversation(Conversation((Message("user", "a"),))) == ((Message("user", "a"),), None)
    assert split_conversation(Conversation((Message("system", "a"),))) is None


def test_prompts_without_room_are_left_out_and_none_left_is_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = Conversation((Message("user", "who sings? " * 20),))
    found = compile_prompts(
        tiny_tokenizer(), [*tiny_conversations(), *tiny_conversations(), long], 30, "here"
    )
    assert len(found) == 5  # each once
    assert "here: 1 of 6 prompts have over 30 tokens: 1 left out (too_long: drop)" in capsys.readouterr().err
    with pytest.raises(UserError, match="here: all 1 prompt have over 30 tokens") as caught:
        compile_prompts(tiny_tokenizer(), [long], 30, "here", max_new_tokens=60)
    assert "set too_long: truncate" in caught.value.hint
    (cut,) = compile_prompts(tiny_tokenizer(), [long], 30, "here", "truncate")
    (whole,) = compile_prompts(tiny_tokenizer(), [long], 300, "here")
    assert len(cut.token_ids) == 30
    assert cut.token_ids[1:] == whole.token_ids[-29:]  # the BOS stays
    with pytest.raises(UserError, match=r"1 of 6 prompts have over 30 tokens"):
        compile_prompts(tiny_tokenizer(), [*tiny_conversations(), long], 30, "here", "refuse")
    with pytest.raises(UserError, match="no usable prompt"):
        compile_prompts(tiny_tokenizer(), [Conversation((Message("system", "a"),))], 30, "here")


def test_rows_are_prompts_with_completions_and_count_what_was_said() -> None:
    rows = token_rows([[5, 6, 7], [8]], [[1, 2], [3, 4, 9]])
    assert rows.input_ids.tolist() == [[5, 6, 7, 1], [8, 3, 4, 0]]
    assert rows.target_ids.tolist() == [[6, 7, 1, 2], [3, 4, 9, 0]]
    assert rows.loss_mask.tolist() == [[False, False, True, True], [True, True, True, False]]
    assert rows.lengths.tolist() == [4, 3]


def test_log_probabilities_are_the_policys_own_whatever_sampling_did() -> None:
    """At temperature 0.5 and top-p 0.6 the engine draws from another distribution."""
    policy = tiny_policy()
    config = tiny_config(temperature=0.5, top_p=0.6)
    made, _ = roll_out(policy, frozen_copy(policy), tiny_tokenizer(), tiny_prompts()[:4], config, 0)
    rows = made.rows
    drawn = 0.0
    for i in range(len(rows.input_ids)):
        n = int(rows.lengths[i])
        with torch.no_grad():
            logits = policy(torch.from_numpy(rows.input_ids[i : i + 1, :n]))[0]
        own = logits.double().log_softmax(-1)
        sampled = filter_logits(logits, SamplingConfig(temperature=0.5, top_p=0.6)).log_softmax(-1)
        for place in np.flatnonzero(rows.loss_mask[i]):
            target = rows.target_ids[i, place]
            assert made.log_probs[i, place] == pytest.approx(float(own[place, target]), abs=1e-4)
            drawn = max(drawn, abs(float(sampled[place, target]) - made.log_probs[i, place]))
    assert drawn > 0.1
    assert not made.log_probs[~rows.loss_mask].any()
    # the policy has not moved yet, and other sums were in another order
    np.testing.assert_allclose(made.log_probs, made.reference_log_probs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64]
)  # by the compiled kernels where there are any, and not
def test_log_probabilities_and_values_come_from_drawing_where_it_computes_as_training_does(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = ActorCritic(tiny_policy(dtype))
    torch.nn.init.normal_(policy.value_head.weight)
    reference, scored = frozen_copy(policy.policy), []
    score_rows = rollouts.score_rows

    def watched(model: torch.nn.Module, *rest: Any) -> Any:
        scored.append(model)
        return score_rows(model, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(rollouts, "score_rows", watched)
    settings = (tiny_tokenizer(), tiny_prompts()[:3], tiny_config(), 0, True)
    drawn, values = roll_out(policy, reference, *settings)
    assert scored == ([] if can_run_natively(reference) else [reference])
    monkeypatch.setattr(rollouts, "draws_as_trained", lambda policy: False)
    passed, passed_values = roll_out(policy, reference, *settings)
    assert policy in scored
    assert reference in scored
    tolerance = 1e-5 if dtype == torch.float32 else 1e-6
    for name in ("log_probs", "reference_log_probs"):
        np.testing.assert_allclose(getattr(drawn, name), getattr(passed, name), rtol=0, atol=tolerance)
    np.testing.assert_allclose(values, passed_values, rtol=0, atol=tolerance)
    assert values.any()
    monkeypatch.undo()
    assert rollouts.draws_as_trained(policy.policy)
    assert not rollouts.draws_as_trained(tiny_policy(torch.bfloat16))
    with torch.autocast("cpu", torch.bfloat16):
        assert not rollouts.draws_as_trained(policy.policy)


def test_rollouts_are_a_pure_function_of_seed_phase_and_weights() -> None:
    policy, prompts, config = tiny_policy(), tiny_prompts()[:4], tiny_config()
    reference = frozen_copy(policy)
    first, again, later = (
        roll_out(policy, reference, tiny_tokenizer(), prompts, config, phase)[0] for phase in (2, 2, 3)
    )
    assert first.samples == again.samples
    assert np.array_equal(first.log_probs, again.log_probs)
    assert first.samples != later.samples
    assert [sample.messages for sample in first.samples[:4]] == [prompts[0].messages] * 4


def test_whether_a_completion_ended_is_known_and_its_mark_is_not_shown() -> None:
    policy, tokenizer = tiny_policy(), tiny_tokenizer()
    samples, completions = complete(policy, tokenizer, tiny_prompts(), tiny_config(max_new_tokens=12), 1)
    ends = stop_ids(tokenizer)
    assert [ids[-1] in ends for ids in completions] == [sample.ended for sample in samples]
    assert all("<|" not in sample.completion for sample in samples)


def test_scoring_switches_dropout_off_and_leaves_the_mode_as_it_was() -> None:
    policy = tiny_policy(dropout=0.5).train()
    rows = token_rows([[5, 6, 7], [8]], [[1, 2], [3, 4, 9]])
    assert np.array_equal(token_log_probs(policy, rows), token_log_probs(policy, rows))
    assert policy.training


def test_a_reference_shares_nothing_and_stays_as_it_is() -> None:
    policy = ActorCritic(tiny_policy())
    reference = frozen_copy(policy.policy)
    before = {name: value.clone() for name, value in reference.state_dict().items()}
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(before[name], value) for name, value in reference.state_dict().items())
    with pytest.raises(AssertionError, match="shares tensors"):
        check_separate(policy, policy.policy)
    with pytest.raises(AssertionError, match="training mode"):
        check_separate(policy, reference.train())


def test_the_exact_divergence_is_zero_from_itself_and_what_k1_estimates_otherwise() -> None:
    policy, other = tiny_policy(), tiny_policy(seed=4)
    with torch.no_grad():  # a reference near by
        for own, changed in zip(policy.parameters(), other.parameters(), strict=True):
            changed.copy_(0.9 * own + 0.1 * changed)
    config = tiny_config(group_size=300)
    reference = frozen_copy(other)
    made, _ = roll_out(policy, reference, tiny_tokenizer(), tiny_prompts()[:2], config, 0)
    assert exact_kl(policy, frozen_copy(policy), made.rows).max() < 1e-5
    exact = exact_kl(policy, reference, made.rows)
    k1 = (made.log_probs - made.reference_log_probs).sum(1)
    assert exact.min() >= 0
    assert float(exact.mean()) == pytest.approx(float(k1.mean()), abs=float(5 * k1.std() / len(k1) ** 0.5))


def test_prompts_read_once_give_the_same_log_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, other = tiny_policy(torch.float64), tiny_policy(torch.float64, seed=4)
    config = tiny_config()
    shared, _ = roll_out(policy, frozen_copy(other), tiny_tokenizer(), tiny_prompts()[:4], config, 0)
    nats = exact_kl(policy, other, shared.rows)
    assert shared.share_prompts
    monkeypatch.setattr(rollouts, "supports_prefix_tree", lambda config: False)
    apart, _ = roll_out(policy, frozen_copy(other), tiny_tokenizer(), tiny_prompts()[:4], config, 0)
    assert not apart.share_prompts
    np.testing.assert_allclose(shared.log_probs, apart.log_probs, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(shared.reference_log_probs, apart.reference_log_probs, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(nats, exact_kl(policy, other, shared.rows), rtol=1e-9, atol=1e-12)
