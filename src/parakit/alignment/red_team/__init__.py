"""Red teaming: attacks read from files, and judgement of the answers by rules or by another model."""
