"""What is kept of a text, and what is masked in it."""
