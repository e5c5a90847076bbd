"""The tasks of lm-eval, the evaluation harness of EleutherAI, on Parakit's engine and on local data."""
