"""Pages of prompts: compared by score and tokens, and sampled replies."""
