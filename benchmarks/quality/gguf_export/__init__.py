"""GGUF files that Parakit writes, loaded by llama.cpp: ids, greedy tokens, next tokens and templates against Parakit's."""

from benchmarks.quality.gguf_export.against_llama_cpp import gguf_export

__all__ = ["gguf_export"]
