"""Tiny models whose special tokens, post-processor and chat template are set as published models set them.

The vocabularies are trained here on a few words, and the weights are random; only the settings are those of the
families. Between them BOS, EOS, PAD, UNK and the turn markers coincide in every pair that published models have.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.sample_text import sentences

CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
HEADERS = (
    "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
INSTRUCTIONS = (  # BOS opens every exchange, and EOS ends it
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' ' + message['content'] + ' ' + eos_token }}{% else %}"
    "{{ raise_exception('only user and assistant') }}{% endif %}{% endfor %}"
)
WORDS_AS_MARKERS = (  # the markers of roles are plain text, and EOS ends every turn
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
MODEL_TURNS = (  # Gemma's: the assistant is "model", a system prompt is refused
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role'])"
    " + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """What a publisher set: the special tokens in the order of their ids, their purposes, what is put before and after a
    text, and the template. `eos_token_ids`: the strings behind `eos_token_id` of generation_config.json.
    """

    tokens: tuple[str, ...]
    purposes: dict[str, str]
    before: str | None = None
    after: str | None = None
    template: str | None = None
    eos_token_ids: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


_END, _START_TURN, _END_TURN = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
FAMILIES: dict[str, Family] = {
    "gpt2": Family((_END,), {"bos": _END, "eos": _END, "unk": _END}, eos_token_ids=(_END,)),
    "qwen2": Family(
        (_END, _START_TURN, _END_TURN),
        {"eos": _END_TURN, "pad": _END},
        template=CHATML,
        eos_token_ids=(_END_TURN, _END),
        settings={"add_bos_token": False},
    ),
    "smollm2": Family(
        (_END, _START_TURN, _END_TURN),
        {"bos": _START_TURN, "eos": _END_TURN, "pad": _END_TURN, "unk": _END},
        template=CHATML,
        eos_token_ids=(_END_TURN,),
    ),
    "llama3": Family(
        (
            *("<|begin_of_text|>", "<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
            *("<|start_header_id|>", "<|end_header_id|>"),
        ),
        {"bos": "<|begin_of_text|>", "eos": "<|eot_id|>"},
        before="<|begin_of_text|>",
        template=HEADERS,
        eos_token_ids=("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
    ),
    "llama2": Family(
        ("<unk>", "<s>", "</s>"),
        {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<unk>"},
        before="<s>",
        template=INSTRUCTIONS,
        eos_token_ids=("</s>",),
    ),
    "zephyr": Family(
        ("<unk>", "<s>", "</s>"),
        {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "</s>"},
        before="<s>",
        template=WORDS_AS_MARKERS,
        eos_token_ids=("</s>",),
    ),
    "gemma": Family(
        ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
        {"bos": "<bos>", "eos": "<eos>", "unk": "<unk>", "pad": "<pad>"},
        before="<bos>",
        template=MODEL_TURNS,
        eos_token_ids=("<eos>", "<end_of_turn>"),
    ),
    "opt": Family(  # BOS, EOS and what begins a text are one token
        ("<pad>", "</s>"),
        {"bos": "</s>", "eos": "</s>", "unk": "</s>", "pad": "<pad>"},
        before="</s>",
        eos_token_ids=("</s>",),
    ),
    "adds_eos": Family(  # decoders that embed texts, such as Qwen3-Embedding
        (_END, _END_TURN),
        {"eos": _END_TURN, "pad": _END},
        after=_END,
        eos_token_ids=(_END_TURN,),
    ),
}


def write_tokenizer(name: str, folder: Path) -> Path:
    """The tokenizer of a family as a publisher's folder has it: tokenizer.json, tokenizer_config.json, the template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    family = FAMILIES[name]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=list(family.tokens),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([sentences(0, 60)], trainer)
    added = [string for string in (family.before, family.after) if string is not None]
    template = f"{family.before or ''} $A {family.after or ''}".strip()
    byte_level = processors.ByteLevel(trim_offsets=False)
    if added:
        around = processors.TemplateProcessing(
            single=template,
            pair=f"{template} {template.replace('$A', '$B')}",
            special_tokens=[(string, tokenizer.token_to_id(string)) for string in added],
        )
        tokenizer.post_processor = processors.Sequence([byte_level, around])
    else:
        tokenizer.post_processor = byte_level
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    purposes = {f"{purpose}_token": string for purpose, string in family.purposes.items()}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64, **purposes}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | family.settings))
    if family.template is not None:
        (folder / "chat_template.jinja").write_text(family.template)
    return folder


def write_model(name: str, folder: Path, max_seq_len: int = 256) -> Path:
    """A Llama of two layers with the tokenizer of a family, its ids in config.json and generation_config.json."""
    import torch
    import transformers

    write_tokenizer(name, folder)
    family, tokenizer = FAMILIES[name], transformers.AutoTokenizer.from_pretrained(folder)
    ends = tokenizer.convert_tokens_to_ids(list(family.eos_token_ids))
    ids = {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=max_seq_len,
        tie_word_embeddings=True,
        eos_token_id=ends[0],
        **ids,
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.1 if parameter.ndim == 1 else 0.3))
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=ends if len(ends) > 1 else ends[0], do_sample=False, **ids
    )
    model.save_pretrained(folder)
    return folder
