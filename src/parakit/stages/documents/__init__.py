"""Measuring an index of documents and the answers from it, and training data out of it."""
