"""Audio, manifests, and the stream of training crops."""
