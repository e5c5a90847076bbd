"""Attacks on a model in the primer's world: eight categories, each with a training split and a held-out split."""
