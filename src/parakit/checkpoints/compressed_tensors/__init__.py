"""Quantized weights in the layout of compressed-tensors, which transformers and vLLM read: settings and tensors."""
