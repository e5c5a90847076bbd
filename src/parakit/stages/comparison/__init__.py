"""A model before and after it is tuned: prompts of the held-out data, and what is measured on both sides."""
