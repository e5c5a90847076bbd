"""`/v1/messages`: the Messages form of Anthropic, which coding agents speak."""
