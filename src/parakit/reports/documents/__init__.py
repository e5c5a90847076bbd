"""The part of a report about an index of documents and the answers from it."""
