"""Compression: distillation into a smaller model, and models merged into one."""
