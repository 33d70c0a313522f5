"""Ways to talk with a checkpoint."""
