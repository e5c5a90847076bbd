"""What both sides of `against_trl` pay for in GRPO. Imports nothing, so that either side's interpreter has it."""

WANTED_WORDS = 12


def near_twelve_words(completion: str) -> float:
    """0 for a completion of twelve words, and less by a twelfth for each word more or fewer."""
    return -abs(len(completion.split()) - WANTED_WORDS) / WANTED_WORDS
