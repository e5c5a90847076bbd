"""The stages of a recipe with an index of documents, and what they will take."""
