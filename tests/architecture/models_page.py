"""Write the table of architectures in docs/models.md from the registry and the tests' cases: `make models`.

A row has the heads that the registry lists and the number of variants that the tests compare with transformers.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from parakit.checkpoints.registry import ARCHITECTURES
from tests.checkpoints import test_checkpoints_decoders as decoders
from tests.checkpoints import test_checkpoints_encoder_decoders as encoder_decoders
from tests.checkpoints import test_checkpoints_encoders as encoders
from tests.checkpoints.architectures.encoder_decoder_cases import ENCODER_DECODERS
from tests.checkpoints.decoder_cases import DECODERS, EMBEDDING_GEMMA
from tests.checkpoints.encoder_cases import ENCODERS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
TABLE = re.compile(r"(?<=\n## Architectures\n\n)(?:\|[^\n]*\n)+")
EMBEDDING_GEMMA_ROW = "gemma3_text (both directions)"
# model_type -> name and what a reader should know; without an entry the name is that of the first class
NAMES = {
    "bart": ("BART", ""),
    "bert": ("BERT", "also MiniLM, bge and e5"),
    "deberta-v2": ("DeBERTa v2, v3", ""),
    "distilbert": ("DistilBERT", ""),
    "electra": ("ELECTRA", "generator and discriminator"),
    "gemma2": ("Gemma 2", ""),
    "gemma3_text": ("Gemma 3", "text only"),
    EMBEDDING_GEMMA_ROW: ("EmbeddingGemma", "Gemma 3 that attends in both directions"),
    "gpt2": ("GPT-2", ""),
    "gpt_neox": ("GPT-NeoX", "also Pythia"),
    "gpt_oss": ("gpt-oss", "weights plain or in MXFP4"),
    "granite": ("Granite 3", ""),
    "llama": ("Llama", "1 to 3; also SmolLM2 and TinyLlama"),
    "m2m_100": ("M2M100, NLLB", ""),
    "marian": ("Marian", "also Opus-MT"),
    "mbart": ("mBART", ""),
    "ministral": ("Ministral", ""),
    "mistral": ("Mistral", "also Mistral Nemo"),
    "mixtral": ("Mixtral", ""),
    "modernbert": ("ModernBERT", ""),
    "mpnet": ("MPNet", "also all-mpnet-base-v2"),
    "mt5": ("mT5", "also mT0"),
    "nomic_bert": ("NomicBERT", ""),
    "olmo2": ("OLMo 2", ""),
    "olmo3": ("OLMo 3", ""),
    "opt": ("OPT", "also Galactica"),
    "pegasus": ("Pegasus", ""),
    "phi3": ("Phi-3, Phi-4", "also Phi-3.5 mini"),
    "qwen2": ("Qwen2, Qwen2.5", ""),
    "qwen3": ("Qwen3", "also Qwen3-Embedding"),
    "qwen3_5_moe_text": ("Qwen3.5-MoE, Qwen3.6-MoE", "the language model; text only"),
    "qwen3_5_text": ("Qwen3.5, Qwen3.6", "the language model; text only"),
    "qwen3_moe": ("Qwen3-MoE", ""),
    "roberta": ("RoBERTa", ""),
    "smollm3": ("SmolLM3", ""),
    "stablelm": ("StableLM", ""),
    "t5": ("T5", "1.0, 1.1 and Flan-T5"),
    "umt5": ("UMT5", ""),
    "xlm-roberta": ("XLM-R", "also multilingual-e5 and bge-m3"),
}
HEADS = {
    "language_model": "next token",
    "masked_language_model": "masked tokens",
    "sequence_to_sequence": "source to target",
    "classifier": "texts",
    "token_classifier": "tokens",
    "question_answering": "answers",
    "discriminator": "replaced tokens",
    "reward_model": "reward",
    "embedder": "vectors",
}


@dataclass(frozen=True)
class Row:
    """One line of the table; `n_variants` are tested."""

    family: str
    model_type: str
    class_name: str
    heads: tuple[str, ...]
    n_variants: int

    def __str__(self) -> str:
        name, note = NAMES.get(self.model_type, (self.class_name.partition("For")[0], ""))
        heads = ", ".join(HEADS[one] for one in self.heads)
        return f"| {self.family} | {name} | `{self.class_name}` | {heads} | {self.n_variants} | {note} |"


def rows() -> list[Row]:
    """A row for each architecture of the registry, by family, in the registry's order."""
    counted = {
        "decoder": _earlier(decoders) + Counter({name: len(one.variants) for name, one in DECODERS.items()}),
        "encoder": _earlier(encoders) + Counter({name: len(one.variants) for name, one in ENCODERS.items()}),
        "encoder-decoder": _earlier(encoder_decoders)
        + Counter({name: len(one.variants) for name, one in ENCODER_DECODERS.items()}),
    }
    found = []
    for family, counts in counted.items():
        for model_type, architecture in ARCHITECTURES.items():
            if model_type in counts:
                classes = architecture.CLASSES
                first = next(iter(classes.values()))
                found.append(Row(family, model_type, first, tuple(classes), counts[model_type]))
        if family == "encoder":
            found.append(
                Row(family, EMBEDDING_GEMMA_ROW, "Gemma3TextModel", ("embedder",), len(EMBEDDING_GEMMA))
            )
    return found


def table() -> str:
    """The table as Markdown."""
    head = "| family | architecture | class | heads | variants tested | notes |\n| --- | --- | --- | --- | ---: | --- |\n"
    return head + "".join(f"{row}\n" for row in rows())


def page() -> str:
    """The text of docs/models.md with the table as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    assert TABLE.search(text), "docs/models.md has no table under `## Architectures`"
    return TABLE.sub(lambda _: table(), text)


def _earlier(module: ModuleType) -> Counter[str]:
    """Cases of the tests that are no table by architecture: each begins with transformers' prefix."""
    types = {model_type.replace("_", ""): model_type for model_type in ARCHITECTURES}
    return Counter(types[case[0].lower()] for case in (*module.CASES.values(), *module.MORE_CASES.values()))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
