"""Conversations and their layout in tokens."""
