"""Recordings: found, decoded, resampled, checked, and where somebody speaks in them; no torch."""
