"""Flags of decoding, and replies on the terminal."""
