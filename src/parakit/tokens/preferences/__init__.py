"""Preference rankings as token ids: encoding through the chat template, and batches."""
