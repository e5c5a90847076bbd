"""Parakit's own measures of a model, each a function from a model to a `BenchmarkResult`."""
