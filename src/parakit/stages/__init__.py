"""What each stage of a recipe does: a job for each that trains a model, and `run_job`, which runs it."""
