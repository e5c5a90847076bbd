"""Putting a model to work: prompts that are measured, answers from one's own documents, tools, and agents that use them.

Everything here works on a loaded `Model` or an OpenAI-compatible endpoint; nothing here trains or evaluates.
"""
