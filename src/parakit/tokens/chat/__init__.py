"""The chat template: a conversation to token ids in one place, and a sandbox for third-party templates."""
