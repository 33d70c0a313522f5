"""Models of others, and ours for others."""
