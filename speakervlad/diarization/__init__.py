"""Who speaks when: speech, windows, clusters, turns."""
