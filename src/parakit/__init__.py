"""Parakit is make for language models: one recipe, one command, from a folder of text to a model that talks.

Each room of the house (`parakit.data`, `parakit.tokens`, `parakit.model`, ...) is a package of its own and is
imported by name. This file holds the version only, so that `import parakit` costs nothing.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
