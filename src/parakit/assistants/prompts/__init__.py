"""Prompts as files: templates with named fields, examples, an output form; a library of the usual kinds."""
