"""Measurements: run by hand, compared as ratios, never asserted."""
