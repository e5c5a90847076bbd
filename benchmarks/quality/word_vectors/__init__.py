"""Word vectors from Parakit and from gensim, on the same words of the same text."""
