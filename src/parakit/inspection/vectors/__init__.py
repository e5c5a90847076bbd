"""Vectors of words and texts: what is near what."""
