"""Indexes of documents: how well they are searched, and answers from them."""
