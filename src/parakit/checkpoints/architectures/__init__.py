"""One module per published architecture: its settings and tensors, read and written.

Each implements `checkpoints.mapping.Architecture`; `checkpoints.registry` lists them all.
"""

__all__: list[str] = []
