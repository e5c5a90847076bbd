"""Evaluation: loss and bits per byte, task metrics, the primer's suites, preferences; with confidence intervals."""
