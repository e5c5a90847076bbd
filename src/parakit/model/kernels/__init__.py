"""Products and whole forward passes on a CPU, in C++ that is compiled at first use; see `csrc/`."""
