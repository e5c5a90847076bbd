"""Texts as tokenizers see them: pieces, counts, costs, and the tokens of an answer with their probabilities."""
