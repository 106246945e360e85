"""Trials, embeddings, scores and what they are worth; needs no torch."""
