"""Models that are put to work: tools, prompts, documents."""
