"""Trials, scores, metrics, calibration and reports: numpy only, neither audio nor encoders."""
