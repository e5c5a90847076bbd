"""A student with fewer parameters against its teacher, and against itself without one."""
