"""Importers of third-party tokenizers: published vocabulary files, and model folders without a tokenizer.json. All are
converted to a tokenizer.json; no code of a folder is run.
"""
