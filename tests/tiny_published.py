"""Tiny folders as publishers make them: written by transformers, with a tokenizer and a chat template of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.sample_text import sentences

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTEXT = 96


def write_tokenizer(folder: Path, template: str | None = CHATML, markers: Sequence[str] = ()) -> int:
    """A byte-level tokenizer whose BOS begins a turn and whose PAD is EOS, as SmolLM2's; returns its size. `markers`: more
    control tokens, which are not flagged as special, such as `<think>`.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator([sentences(i, 12) for i in range(8)], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
    )
    tokenizer.add_tokens(list(markers))
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def write_decoder(
    folder: Path, max_seq_len: int = CONTEXT, template: str | None = CHATML, markers: Sequence[str] = ()
) -> Path:
    """A Llama of two layers that nobody trained, with its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    vocab_size = write_tokenizer(folder, template, markers)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=max_seq_len,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def published_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers that nobody trained, with the ChatML template; not to be changed."""
    return write_decoder(tmp_path_factory.mktemp("published") / "tiny-llama")


@pytest.fixture(scope="session")
def published_wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a context window of 4,096 tokens, which holds prompts with tools; not to be changed."""
    return write_decoder(tmp_path_factory.mktemp("published") / "wide-llama", 4096)


@pytest.fixture(scope="session")
def published_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers that fills masks, with a WordPiece tokenizer; not to be changed."""
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("published") / "tiny-bert"
    backend = BertWordPieceTokenizer()
    backend.train_from_iterator([sentences(i, 12) for i in range(8)], vocab_size=200, show_progress=False)
    tokenizer = BertTokenizerFast(tokenizer_object=backend)
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        pad_token_id=tokenizer.pad_token_id,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    return folder
