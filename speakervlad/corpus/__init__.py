"""Corpora: layouts, preparation, packing, and the stream of training crops."""
