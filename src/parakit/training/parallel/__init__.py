"""Training in many processes, on PyTorch's own engine: one process a device, started by `torchrun`."""
