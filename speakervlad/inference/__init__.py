"""Files in, embeddings out."""
