"""Blind pairs of answers, the votes of people on them, and what the votes come to."""
