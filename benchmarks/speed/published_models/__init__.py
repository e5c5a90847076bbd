"""Tuning the published model of 135M parameters, next to other libraries."""
