"""Looking inside a model in the studio: attention, behaviours, the logit lens, vectors, and two checkpoints."""
