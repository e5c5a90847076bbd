"""Distillation: a student model learns the token distributions of a larger teacher."""
