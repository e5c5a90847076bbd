"""Sweeps: one recipe over seeds and values, with everything that does not differ made once."""
