"""The verbs of `parakit inspect`, one module each."""
