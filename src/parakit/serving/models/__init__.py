"""The models that a server has: their names, which of them are in memory, and the engine of each."""
