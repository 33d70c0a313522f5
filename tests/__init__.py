"""Tests of llm_jax; the folders mirror the library."""
