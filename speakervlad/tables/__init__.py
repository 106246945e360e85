"""What lies on disk as rows: manifests, embeddings, arrays, columns of text, names; no audio."""
