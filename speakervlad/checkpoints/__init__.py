"""Weights that others trained, as encoder folders: one reader for each toolkit."""
