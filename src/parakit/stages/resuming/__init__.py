"""Resuming a run whose settings have changed since it was interrupted."""
