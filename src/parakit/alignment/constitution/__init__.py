"""Constitutional AI (Bai et al. 2022): critique and revision by principles, and preferences by AI feedback."""
