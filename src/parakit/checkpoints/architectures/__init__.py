"""One small file per published architecture: its settings and its tensors' names in our words, both ways.

Each offers what `checkpoints.mapping.Architecture` lists; `checkpoints.registry` knows them all.
"""

__all__: list[str] = []
