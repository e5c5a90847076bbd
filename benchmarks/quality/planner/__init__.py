"""What the planner predicts against what runs take, and against what was published of large ones."""
