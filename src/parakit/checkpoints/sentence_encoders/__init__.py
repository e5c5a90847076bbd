"""The files that sentence-transformers keeps next to a model: its modules, their settings and weights, and prompts."""
