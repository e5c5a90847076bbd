"""What the doctor looks at beyond a decoder's next token: hidden tokens, pairs of source and target, labels, scores,
texts that mean alike.
"""

__all__: list[str] = []
