"""Quantization of trained models: by rounding, GPTQ and AWQ, with bits by layer under a size budget, measured."""
