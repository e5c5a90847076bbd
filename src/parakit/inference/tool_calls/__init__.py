"""Calls of tools: what the model reads of the tools, the grammar of a call, and the calls in what the model writes."""
