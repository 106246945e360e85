"""Trials, scores, metrics, calibration and reports: numpy only, no torch."""
