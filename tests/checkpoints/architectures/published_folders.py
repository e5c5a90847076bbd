"""Tiny folders with the files of published models: their config.json and tokenizer_config.json, shrunk, and random weights."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch

from parakit.checkpoints import registry, weights
from parakit.checkpoints.safetensors_io import write_tensors
from tests.checkpoints.architectures.published_configs import PUBLISHED, shrunk

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# tokenizer_config.json and special_tokens_map.json as published, without `added_tokens_decoder`
SMOLLM2 = {
    **{"add_prefix_space": False, "additional_special_tokens": ["<|im_start|>", "<|im_end|>"]},
    **{"bos_token": "<|im_start|>", "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>"},
    **{"model_max_length": 8192, "pad_token": "<|im_end|>", "tokenizer_class": "GPT2Tokenizer"},
    **{"unk_token": "<|endoftext|>", "vocab_size": 49152, "chat_template": CHATML},
}
QWEN = {
    **{"add_bos_token": False, "add_prefix_space": False, "bos_token": None, "chat_template": CHATML},
    **{"additional_special_tokens": ["<|im_start|>", "<|im_end|>"], "clean_up_tokenization_spaces": False},
    **{"eos_token": "<|im_end|>", "errors": "replace", "model_max_length": 131072},
    **{"pad_token": "<|endoftext|>", "split_special_tokens": False, "tokenizer_class": "Qwen2Tokenizer"},
    **{"unk_token": None, "padding_side": "left", "truncation_side": "left"},
}
GPT2 = {
    **{"add_prefix_space": False, "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
    **{"model_max_length": 1024, "tokenizer_class": "GPT2Tokenizer", "unk_token": "<|endoftext|>"},
}
BERT = {
    **{"cls_token": "[CLS]", "clean_up_tokenization_spaces": True, "do_lower_case": True},
    **{"mask_token": "[MASK]", "model_max_length": 512, "pad_token": "[PAD]", "sep_token": "[SEP]"},
    **{"strip_accents": None, "tokenize_chinese_chars": True, "tokenizer_class": "BertTokenizer"},
    **{"unk_token": "[UNK]", "never_split": None},
}
GENERATION = {
    "Qwen/Qwen2.5-0.5B-Instruct": {
        **{"bos_token_id": 3, "do_sample": True, "eos_token_id": [2, 0], "pad_token_id": 0, "top_k": 20},
        **{"repetition_penalty": 1.1, "temperature": 0.7, "top_p": 0.8, "transformers_version": "4.37.0"},
    },
    "HuggingFaceTB/SmolLM2-135M-Instruct": {
        **{"_from_model_config": True, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2},
        **{"transformers_version": "4.42.3"},
    },
}


@cache
def tiny_tokenizer_json(kind: str) -> str:
    """A tokenizer.json of at most 320 tokens: byte BPE as GPT-2's, or WordPiece as BERT's."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    text = ["The capital of France is Paris.", "low lower lowest, new newer newest", "123 and more"]
    if kind == "bert":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        wordpiece = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special)
        tokenizer.train_from_iterator(text, wordpiece)
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        tokenizer.decoder = decoders.WordPiece()
        return tokenizer.to_str()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(text, trainer)
    return tokenizer.to_str()


def published_folder(
    path: Path, name: str, tokenizer_config: dict | None = None, pooler: bool = False, **changes: Any
) -> Path:
    """The folder of the published model `name` at a tiny size; `changes` are keys of its config.json."""
    path.mkdir(parents=True)
    hf_config = shrunk(PUBLISHED[name]) | changes
    architecture, head = registry.architecture_of(hf_config, name)
    config = architecture.read_settings(hf_config, name)
    model = weights.empty_model(config, head, torch.device("cpu"), torch.float32)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    tensors = dict(weights.export_tensors(model, architecture, head, None))
    if pooler:
        prefix = "" if head.kind == "embedder" else architecture.PREFIX
        tensors[f"{prefix}pooler.dense.weight"] = torch.randn(16, 16, generator=generator)
        tensors[f"{prefix}pooler.dense.bias"] = torch.randn(16, generator=generator)
    write_tensors(tensors, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(hf_config))
    if name in GENERATION:
        (path / "generation_config.json").write_text(json.dumps(GENERATION[name]))
    if tokenizer_config is not None:
        kind = "bert" if "cls_token" in tokenizer_config else "byte_bpe"
        (path / "tokenizer.json").write_text(tiny_tokenizer_json(kind))
        (path / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
        names = {k: v for k, v in tokenizer_config.items() if k.endswith("_token") and isinstance(v, str)}
        (path / "special_tokens_map.json").write_text(json.dumps(names))
    return path
