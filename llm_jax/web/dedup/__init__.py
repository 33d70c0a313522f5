"""Copies, exact and near."""
