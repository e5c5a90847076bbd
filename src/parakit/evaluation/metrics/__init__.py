"""Metrics, one subject a file. Numpy only, except sacrebleu's and rouge-score's."""
