"""Single passes of a model: a prefill, or one new token of each row; in PyTorch, by compiled kernels, or as graphs of a GPU."""
