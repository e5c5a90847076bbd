"""A chat model about a folder of documents: the documents, the questions, and how answers are graded."""
