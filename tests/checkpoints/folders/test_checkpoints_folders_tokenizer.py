"""A model folder with its tokenizer: transformers reads both, and sizes that do not fit are refused."""

import json
import os

import pytest
import torch

from parakit.checkpoints import load_model, save_model
from parakit.common import Lineage, UserError
from parakit.model.config import ClassifierConfig, DecoderConfig, EmbedderConfig, EncoderConfig
from parakit.model.heads import Classifier, Embedder, LanguageModel, MaskedLanguageModel, RewardModel
from parakit.tokens import Tokenizer, TokenizerConfig, compile_chat, train_tokenizer

transformers = pytest.importorskip("transformers")

SHAPE = {
    "d_model": 16,
    "n_layers": 1,
    "n_heads": 2,
    "n_kv_heads": 1,
    "head_dim": 8,
    "d_ff": 24,
    "max_seq_len": 64,
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    return train_tokenizer(
        iter(["The parrot said it was late. It was not late."] * 20), TokenizerConfig(vocab_size=290)
    )


@pytest.fixture
def folder(tokenizer, tmp_path):
    torch.manual_seed(1)
    model = LanguageModel(DecoderConfig(vocab_size=tokenizer.vocab_size, **SHAPE))
    return save_model(model, tokenizer, tmp_path / "m", Lineage("model"))


def test_transformers_reads_our_tokenizer_from_the_model_folder(folder, tokenizer):
    reference = transformers.AutoTokenizer.from_pretrained(folder)
    for text in ("The parrot message: it was not late!", "café <|end|> 12345 \U0001f99c"):
        if "<|" not in text:
            assert reference(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text)
        assert reference.decode(tokenizer.encode(text)) == text
    assert (reference.bos_token_id, reference.eos_token_id, reference.pad_token_id) == (
        tokenizer.bos_id,
        tokenizer.eos_id,
        tokenizer.pad_id,
    )


def test_the_same_conversation_gives_the_same_ids(folder, tokenizer):
    from parakit.data.conversations.conversation import Message

    reference = transformers.AutoTokenizer.from_pretrained(folder)
    turns = [("user", "Is it late?"), ("assistant", "It was not late."), ("user", "And now?")]
    actual = compile_chat(tokenizer, [Message(*turn) for turn in turns], add_generation_prompt=True)
    messages = [{"role": role, "content": content} for role, content in turns]
    ids = reference.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert list(actual.token_ids) == list(ids)


def test_greedy_text_is_that_of_transformers(folder, tokenizer):
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder)
    model, loaded = load_model(folder)
    assert loaded.digest == tokenizer.digest
    token_ids = torch.tensor([[tokenizer.bos_id, *tokenizer.encode("The parrot")]])
    made = reference.generate(
        token_ids, max_new_tokens=8, do_sample=False, attention_mask=torch.ones_like(token_ids)
    )
    actual = token_ids
    with torch.no_grad():
        while actual.shape[1] < made.shape[1]:
            actual = torch.cat([actual, model(actual)[:, -1:].argmax(-1)], 1)
    assert torch.equal(actual, made)


def test_the_ids_that_end_a_completion_are_written(folder, tokenizer):
    written = json.loads((folder / "generation_config.json").read_text())
    assert written["eos_token_id"] == [tokenizer.eos_id, tokenizer.turn_ids["end"]]
    assert (
        json.loads((folder / "config.json").read_text())["pad_token_id"]
        == tokenizer.pad_id
        != tokenizer.eos_id
    )


@pytest.mark.parametrize("family", [EncoderConfig, DecoderConfig])
def test_a_model_that_reads_no_conversations_has_no_chat_template(tokenizer, tmp_path, family):
    """sentence-transformers would read every text through the template."""
    shape = {**SHAPE, "n_kv_heads": 2} if family is EncoderConfig else SHAPE
    config = family(vocab_size=tokenizer.vocab_size, **shape)
    is_encoder = family is EncoderConfig
    labelled = {} if is_encoder else {"pooling": "last", "head": "linear", "bias": False}
    classifier = Classifier(config, ClassifierConfig(labels=("no", "yes"), **labelled))
    embedder = Embedder(config, EmbedderConfig(pooling="mean" if is_encoder else "last"))
    for model in (classifier, embedder, *([MaskedLanguageModel(config)] if is_encoder else [])):
        save_model(model, tokenizer, tmp_path / "m", Lineage("model"), overwrite=True)
        assert not (tmp_path / "m/chat_template.jinja").exists()
        again, loaded = load_model(tmp_path / "m")
        assert (loaded.chat_template, loaded.digest) == (None, tokenizer.digest)
        save_model(again, loaded, tmp_path / "g", Lineage("model"), overwrite=True)
    if not is_encoder:  # it scores conversations
        save_model(RewardModel(config), tokenizer, tmp_path / "r", Lineage("model"))
        assert load_model(tmp_path / "r")[1].chat_template == tokenizer.chat_template


def test_a_publishers_chat_template_stays_with_an_embedder(published_decoder, tmp_path):
    """Qwen3-Embedding has one."""
    model, tokenizer = load_model(published_decoder)
    embedder = Embedder(model.config, EmbedderConfig(pooling="last"))
    save_model(embedder, tokenizer, tmp_path / "m", Lineage("model"))
    assert (tmp_path / "m/chat_template.jinja").read_text() == tokenizer.chat_template


def test_a_tokenizer_larger_than_the_embedding_is_refused(tokenizer, tmp_path):
    model = LanguageModel(DecoderConfig(vocab_size=tokenizer.vocab_size - 1, **SHAPE))
    message = f"{tokenizer.vocab_size} tokens.*{tokenizer.vocab_size - 1} rows"
    with pytest.raises(UserError, match=message):
        save_model(model, tokenizer, tmp_path / "m", Lineage("model"))
    assert not (tmp_path / "m").exists()
    save_model(model, None, tmp_path / "m", Lineage("model"))
    tokenizer.save(tmp_path / "m")
    with pytest.raises(UserError, match=message):
        load_model(tmp_path / "m", verify=False)


def test_an_embedding_larger_than_the_tokenizer_is_fine(tokenizer, tmp_path):
    model = LanguageModel(DecoderConfig(vocab_size=tokenizer.vocab_size + 14, **SHAPE))
    save_model(model, tokenizer, tmp_path / "m", Lineage("model"))
    assert load_model(tmp_path / "m")[0].config.vocab_size == tokenizer.vocab_size + 14
