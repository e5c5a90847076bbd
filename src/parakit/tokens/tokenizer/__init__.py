"""The tokenizer: training, files, fast encoding, special tokens."""
