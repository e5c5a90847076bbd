"""What is printed of an index of documents and of answers from it."""
