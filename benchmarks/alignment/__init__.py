"""What the alignment benchmarks share: the gold reward, the primer's prompts, pictures of frontiers."""
