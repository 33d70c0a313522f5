"""Recipes: one file a stage, read from top to bottom."""
