"""Speed and memory, against other libraries on the same cores or against what the hardware allows."""
