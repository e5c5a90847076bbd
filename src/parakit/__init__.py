"""Parakit is make for language models: one recipe, one command, from a folder of text to a model that answers.

    import parakit
    model = parakit.load("builds/primer")
    model.generate("Once", max_new_tokens=40, temperature=0)

Names are imported on first use, so `import parakit` does not import torch. See docs/python.md.
"""

from typing import TYPE_CHECKING

from parakit.common.lazy import lazy_exports

if TYPE_CHECKING:
    from parakit import api_prompts as prompts
    from parakit.api import load as load
    from parakit.api_agents import agent as agent
    from parakit.api_comparison import compare as compare
    from parakit.api_documents import answer as answer
    from parakit.api_documents import document_assistant as document_assistant
    from parakit.api_documents import index_documents as index_documents
    from parakit.api_evaluation import evaluate as evaluate
    from parakit.api_judging import judge as judge
    from parakit.api_scaling import scale as scale
    from parakit.api_training import align as align
    from parakit.api_training import build as build
    from parakit.api_training import distill as distill
    from parakit.api_training import finetune as finetune
    from parakit.api_training import pretrain as pretrain
    from parakit.api_training import quantize as quantize
    from parakit.api_training import sweep as sweep
    from parakit.compression.gguf_export import export_gguf as export_gguf
    from parakit.compression.merging.models import merge_models as merge_models
    from parakit.inference.loaded_model import Model as Model
    from parakit.tokens.tokenizer.tokenizer import Tokenizer as Tokenizer

__version__ = "0.1.0"

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Model": "inference.loaded_model",
        "Tokenizer": "tokens.tokenizer.tokenizer",
        "agent": "api_agents",
        "align": "api_training",
        "answer": "api_documents",
        "build": "api_training",
        "compare": "api_comparison",
        "distill": "api_training",
        "document_assistant": "api_documents",
        "evaluate": "api_evaluation",
        "export_gguf": "compression.gguf_export",
        "finetune": "api_training",
        "index_documents": "api_documents",
        "judge": "api_judging",
        "load": "api",
        "merge_models": "compression.merging.models",
        "pretrain": "api_training",
        "prompts": "api_prompts",
        "quantize": "api_training",
        "scale": "api_scaling",
        "sweep": "api_training",
    },
)

__all__ = [
    "Model",
    "Tokenizer",
    "__version__",
    "agent",
    "align",
    "answer",
    "build",
    "compare",
    "distill",
    "document_assistant",
    "evaluate",
    "export_gguf",
    "finetune",
    "index_documents",
    "judge",
    "load",
    "merge_models",
    "pretrain",
    "prompts",
    "quantize",
    "scale",
    "sweep",
]
