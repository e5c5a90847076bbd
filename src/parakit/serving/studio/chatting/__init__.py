"""Conversations of the studio: a tree of turns, answers with the probabilities of their tokens, and files."""
