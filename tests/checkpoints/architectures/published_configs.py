"""config.json files of published models, as their publishers wrote them: `data/published_configs.json`, one model a line.

Keys and values are facts about those models, collected so that no harmless key locks one of them out; paths of the
publishers' machines are shortened. `REFUSED` names the models that Parakit refuses for another reason than an unknown
`model_type`, and that reason.
"""

import json
from pathlib import Path
from typing import Any

PUBLISHED: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "published_configs.json").read_text()
)
REFUSED = {
    "NousResearch/Yarn-Llama-2-7b-64k": "code of the publisher's own",
    "Alibaba-NLP/gte-Qwen2-1.5B-instruct": "code of the publisher's own",
    "microsoft/Phi-3-mini-4k-instruct": "code of the publisher's own",
    "TheBloke/Llama-2-7B-GPTQ": "quantized weights",
    "TheBloke/Mistral-7B-Instruct-v0.2-AWQ": "quantized weights",
    "mlx-community/Qwen3-0.6B-4bit": "quantized weights",
    "Qwen/Qwen2.5-Math-RM-72B": "Qwen2ForRewardModel",  # two layers in its head
    "jinaai/jina-embeddings-v2-small-en": "JinaBertForMaskedLM",
    "stanford-crfm/alias-gpt2-small-x21": "scores divided by the layer's number",
    "facebook/bart-large-mnli": "BartForSequenceClassification",
}
# sizes of a tiny model of the same settings
_TINY = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim"), 16),
    **dict.fromkeys(("num_attention_heads", "n_head", "num_heads", "n_heads"), 2),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(("encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("intermediate_size", "n_inner", "d_ff", "hidden_dim", "moe_intermediate_size"), 24),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 24),
    **{"num_key_value_heads": 1, "head_dim": 8, "d_kv": 8, "num_experts": 4, "num_local_experts": 4},
    **{"num_experts_per_tok": 2, "vocab_size": 320, "decoder_vocab_size": 320},
    **{"max_position_embeddings": 40, "n_positions": 40, "n_ctx": 40},
}


def shrunk(config: dict[str, Any]) -> dict[str, Any]:
    """`config` at a tiny size, with every key that it has; ids fit the vocabulary."""

    def fitted(key: str, value: Any) -> Any:
        if key.endswith("token_id") and value is not None:
            return [v % 300 for v in value] if isinstance(value, list) else value % 300
        if key == "bad_words_ids":
            return [[v % 300 for v in row] for row in value]
        return _TINY.get(key, value) if value is not None else None

    return {key: fitted(key, value) for key, value in config.items()}
