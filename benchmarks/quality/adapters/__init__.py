"""Adapters against full fine-tuning, and what must be exact about them."""
