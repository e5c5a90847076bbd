"""Learning from preferences: reward models, and DPO and its variants."""
