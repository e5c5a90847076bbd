"""What is below the studio's folder: models, builds and tokenizers, how each was made, and what may be done with it."""
