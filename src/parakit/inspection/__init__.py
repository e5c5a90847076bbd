"""Looking inside a model from outside it: what its heads attend to, what its parts write, what changes without them.

Every function takes a loaded `Model` and text, and returns named arrays. Layers know nothing of it: see `capture`.
"""
