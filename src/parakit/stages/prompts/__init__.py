"""Prompts measured on a table of inputs: scores, costs in tokens, paired comparisons."""
