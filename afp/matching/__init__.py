"""Matching of fingerprints: pure functions on arrays."""
