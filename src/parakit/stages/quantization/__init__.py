"""Quantization as a stage: from a model folder to one with int8 or int4 weights."""
