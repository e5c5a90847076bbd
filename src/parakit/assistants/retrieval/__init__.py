"""An index of one's own documents: passages that are found by words and by vectors, and answers with checked citations."""
