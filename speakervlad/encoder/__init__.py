"""Recordings in, embeddings out."""
