"""Plans at the terminal."""
