"""Robustness benchmark: distort clips, query them, keep a row for each, score the rows."""
