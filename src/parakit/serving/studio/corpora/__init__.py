"""Data in the studio: documents, conversations and pairs, what was left out and why, and what the loss counts."""
