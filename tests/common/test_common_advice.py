"""What a message says to set helps: every number in a hint is applied, and the error is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from parakit.alignment.config import AlignConfig
from parakit.alignment.rl.prompts import compile_prompts
from parakit.common.errors import UserError
from parakit.compression.distillation.students import select_layers
from parakit.data.conversations.conversation import Conversation, Message
from parakit.data.mixing import source_caps
from parakit.data.preferences.rankings import Ranking
from parakit.evaluation.perplexity import evaluate_loss
from parakit.model import DecoderConfig, LanguageModel
from parakit.model.adapters import make_lora
from parakit.model.adapters.config import LoraConfig, PromptConfig
from parakit.model.adapters.creation import make_prompt
from parakit.model.presets import config_for_size
from parakit.stages.defaults import memory
from parakit.tokens import TokenizerConfig, train_tokenizer
from parakit.tokens.batches.source import evaluation_batches
from parakit.tokens.preferences.encoding import encode_rankings
from parakit.training.config import ExampleTrainingConfig, TextTrainingConfig, resolve, resolve_examples
from parakit.training.doctor.folders import _plan
from tests.advice import assert_advice_helps, ways_out
from tests.alignment.rl.tiny_policy import tiny_tokenizer
from tests.attacks.long_rows import shards_of
from tests.contracts.training_cases import make_model

RATES = {"learning_rate": 0.01, "embedding_learning_rate": 0.01}
TEXT = ["the old bird sees the river again and likes a small red tree near the house " * 4] * 8
LENGTHS = ("seq_len", "batch_tokens", "too_long")


def test_a_hint_is_read_as_it_is_written() -> None:
    known = ("seq_len", "batch_tokens", "too_long", "rank")
    read = ways_out(
        "add text or lower seq_len to 8 and batch_tokens to 1,600, or set too_long: truncate or drop", known
    )
    assert read == [{"seq_len": 8, "batch_tokens": 1600}, {"too_long": "truncate"}]
    assert ways_out("pass --seq-len 32, or a folder with more", known) == [{"seq_len": 32}]
    assert ways_out("raise it", known) == []


@given(
    seq_len=st.integers(2, 40),
    batch_tokens=st.integers(2, 400),
    n=st.integers(1, 600),
    window=st.integers(2, 40),
)
def test_a_batch_that_is_larger_than_the_text(seq_len: int, batch_tokens: int, n: int, window: int) -> None:
    def call(seq_len: int, batch_tokens: int) -> object:
        config = TextTrainingConfig(seq_len=seq_len, batch_tokens=batch_tokens)
        return resolve(config, batch_tokens=64, max_seq_len=window, n_train_tokens=n, **RATES)

    settings = {"seq_len": seq_len, "batch_tokens": batch_tokens}
    try:
        call(**settings)
    except UserError as error:
        if error.hint == "add text":
            with pytest.raises(UserError):  # not even the smallest row
                call(seq_len=2, batch_tokens=2)
            return
        too_long = "exceeds the model's" in error.message  # then the text may be too short as well
        assert_advice_helps(call, settings, LENGTHS, then="fewer than one batch" if too_long else None)


@given(batch=st.integers(1, 60), n=st.integers(1, 50), growth=st.integers(1, 70))
def test_a_batch_that_is_larger_than_the_examples_or_grows_too_much(batch: int, n: int, growth: int) -> None:
    def call(batch_examples: int, batch_growth: int) -> object:
        config = ExampleTrainingConfig(batch_examples=batch_examples, batch_growth=batch_growth)
        return resolve_examples(config, max_seq_len=16, n_train_examples=n, **RATES)

    settings = {"batch_examples": batch, "batch_growth": growth}
    try:
        call(**settings)
    except UserError:
        assert_advice_helps(call, settings, settings, then="batch_growth" if batch > n else None)


@given(prompts=st.integers(1, 40), group=st.integers(1, 12), minibatches=st.integers(1, 40))
def test_minibatches_that_do_not_divide_a_phase_and_groups_of_one(
    prompts: int, group: int, minibatches: int
) -> None:
    def call(**values: Any) -> object:
        return AlignConfig.parse({"method": "grpo", **values})

    settings = {"rollout_prompts": prompts, "group_size": group, "minibatches": minibatches}
    try:
        call(**settings)
    except UserError as error:
        then = "minibatches" if "compares the completions" in error.message else "group_size = 1"
        assert_advice_helps(call, settings, settings, then=then)


def test_an_estimator_without_a_gradient() -> None:
    assert_advice_helps(
        lambda **values: AlignConfig.parse({"method": "grpo", **values}),
        {"kl_estimator": "k1"},
        ["kl_estimator"],
    )


@pytest.mark.parametrize("family", ["decoder", "encoder", "encoder-decoder"])
def test_a_size_that_the_vocabulary_does_not_allow(family: str) -> None:
    def call(size: object) -> object:
        return config_for_size(str(size), 32_000, 64, family)

    assert_advice_helps(call, {"size": "20k"}, ["size"])


def test_a_rank_over_the_smallest_matrix_and_more_virtual_tokens_than_the_window() -> None:
    def lora(rank: int) -> object:
        return make_lora(make_model(64), LoraConfig(rank=rank))

    def prompt(n_prompt_tokens: int) -> object:
        model = make_model(64, max_seq_len=8)
        return make_prompt(model, PromptConfig(n_prompt_tokens=n_prompt_tokens))

    assert_advice_helps(lora, {"rank": 20}, ["rank"])  # matrices of 16 x 16, and keys of 8
    assert_advice_helps(prompt, {"n_prompt_tokens": 7}, ["n_prompt_tokens"])


def test_rows_over_the_window_that_a_loss_is_measured_in() -> None:
    shards = shards_of([(20, 20, 0)])
    model = make_model(64)
    assert_advice_helps(
        lambda seq_len: evaluate_loss(model, shards, seq_len=seq_len), {"seq_len": 97}, ["seq_len"]
    )
    assert_advice_helps(
        lambda overlap: list(evaluation_batches(shards, 8, 2, overlap)), {"overlap": 8}, ["overlap"]
    )


@pytest.mark.parametrize("kind", ["byte_bpe", "wordpiece", "unigram", "word", "char"])
def test_a_vocabulary_that_is_too_small(kind: str) -> None:
    def call(vocab_size: int) -> object:
        values = {"kind": kind, "vocab_size": vocab_size, "n_sentinels": 20}
        return train_tokenizer(TEXT, TokenizerConfig.parse(values))

    assert_advice_helps(call, {"vocab_size": 16}, ["vocab_size"])


def test_more_layers_than_the_teacher_has() -> None:
    assert_advice_helps(
        lambda keep_layers: select_layers(6, keep_layers), {"keep_layers": 7}, ["keep_layers"]
    )
    assert_advice_helps(
        lambda keep_layers: select_layers(1, keep_layers), {"keep_layers": 2}, ["keep_layers"]
    )


@given(n=st.integers(1, 40), share=st.floats(0.01, 1.0))
def test_a_share_that_too_few_sources_cannot_keep(n: int, share: float) -> None:
    sizes = {str(i): 10 + i for i in range(n)}
    assume(share * n < 1)
    assert_advice_helps(
        lambda max_source_share: source_caps(sizes, max_source_share),
        {"max_source_share": share},
        ["max_source_share"],
    )


@given(seq_len=st.integers(2, 100), n=st.integers(8, 300))
def test_a_split_that_the_doctor_can_fill_no_row_of(seq_len: int, n: int) -> None:
    shards = shards_of([(n // 2, n - n // 2, 0)])
    config = DecoderConfig(
        vocab_size=400, d_model=16, n_layers=1, n_heads=2, n_kv_heads=2, head_dim=8, d_ff=24, max_seq_len=96
    )

    def call(seq_len: int) -> object:
        return _plan(config, shards, seq_len)

    try:
        call(seq_len)
    except UserError:
        assert_advice_helps(call, {"seq_len": seq_len}, ["seq_len"])


# ---- rows that are too long


def test_prompts_and_rankings_over_the_window() -> None:
    tokenizer = tiny_tokenizer()
    prompt = (Message("user", "who sings? " * 20),)
    whole = len(compile_prompts(tokenizer, [Conversation(prompt)], 10_000, "here")[0].token_ids)

    def prompts(max_new_tokens: int, too_long: Any) -> object:
        room = whole + 8 - max_new_tokens
        return compile_prompts(tokenizer, [Conversation(prompt)], room, "here", too_long, max_new_tokens)

    def rankings(seq_len: int, too_long: Any) -> object:
        return encode_rankings(
            tokenizer, [Ranking(prompt, ("Ann", "Bob"))], seq_len, too_long=too_long, window=whole + 50
        )

    for rule in ("drop", "refuse"):
        settings = {"max_new_tokens": 64, "too_long": rule}
        assert_advice_helps(prompts, settings, settings)
        settings = {"seq_len": 40, "too_long": rule}
        assert_advice_helps(rankings, settings, settings)
    assert_advice_helps(rankings, {"seq_len": 5, "too_long": "truncate"}, ["seq_len", "too_long"])


# ---- memory


@given(
    available=st.floats(0.2, 30.0),
    micro_batch=st.sampled_from([None, 1, 8]),
    checkpointing=st.sampled_from(["auto", "on", "off"]),
)
def test_a_tuning_that_does_not_fit_into_the_memory(
    available: float, micro_batch: int | None, checkpointing: str
) -> None:
    """20 million parameters, rows of 1,024 tokens; memory in hundreds of megabytes."""
    config = DecoderConfig(
        vocab_size=20_000,
        d_model=512,
        n_layers=6,
        n_heads=8,
        n_kv_heads=8,
        head_dim=64,
        d_ff=1536,
        max_seq_len=1024,
    )
    with torch.device("meta"):
        model = LanguageModel(config)

    def call(seq_len: int, micro_batch_size: int | None, gradient_checkpointing: str) -> object:
        training = TextTrainingConfig.parse(
            {
                "seq_len": seq_len,
                "batch_tokens": 8192,
                "gradient_checkpointing": gradient_checkpointing,
                **({"micro_batch_size": micro_batch_size} if micro_batch_size else {}),
                "device": "cpu",
            }
        )
        plan = resolve(training, batch_tokens=8192, max_seq_len=1024, n_train_tokens=100_000, **RATES)
        plan = plan.replace(gradient_checkpointing=gradient_checkpointing == "on")
        return memory.fit_memory("tune", model, config, plan, training, available=int(available * 1e8))

    settings = {"seq_len": 1024, "micro_batch_size": micro_batch, "gradient_checkpointing": checkpointing}
    try:
        call(**settings)  # type: ignore[arg-type]
    except UserError as error:
        if "--method lora" in error.hint:
            for parameter in model.parameters():
                parameter.requires_grad_(parameter.numel() < 100_000)
            call(16, 1, "on")
            return
        if "take a smaller model" in error.hint:
            return
        assert_advice_helps(call, settings, settings)


def test_no_room_for_a_prompt_beside_the_completion(tmp_path: Path) -> None:
    from parakit.alignment.config import GRPOConfig
    from parakit.stages.rl_jobs import load_context
    from tests.alignment.tiny_chat_model import chat_model_folder

    folder, file = chat_model_folder(tmp_path / "m", 96), tmp_path / "p.jsonl"
    file.write_text(
        '{"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ann."}]}\n'
    )

    def call(max_new_tokens: int) -> object:
        config = AlignConfig.parse(
            {"method": "grpo", "reward": "exact_answer", "max_new_tokens": max_new_tokens, "device": "cpu"}
        )
        assert isinstance(config, GRPOConfig)
        return load_context(folder, file, config)

    assert_advice_helps(call, {"max_new_tokens": 96}, ["max_new_tokens"])
