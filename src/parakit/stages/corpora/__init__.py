"""What stages and commands do with the documents of a corpus: their history, questions about them, figures of mixtures."""
