"""Scoring, statistics and the report of a run."""
