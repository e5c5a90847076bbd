"""The heap of a process that trains on a CPU."""
