"""The baselines that are trained next to Parakit: small GPTs as plain PyTorch programs, which use nothing of Parakit's."""
