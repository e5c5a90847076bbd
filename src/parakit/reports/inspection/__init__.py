"""Pages about what is inside a model."""
