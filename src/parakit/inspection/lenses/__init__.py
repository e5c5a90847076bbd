"""What each layer predicts: the logit lens and the tuned lens."""
