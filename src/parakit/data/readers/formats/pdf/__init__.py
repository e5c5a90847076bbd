"""PDF: a child process reads the characters and rebuilds columns, lines and paragraphs."""
