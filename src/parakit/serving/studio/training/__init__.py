"""Training in the studio: runs and their curves, builds that are started, stopped and queued."""
