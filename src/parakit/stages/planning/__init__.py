"""Plans of recipes and of this machine: what `planning` computes from shapes, with shapes and speeds that are read here."""
