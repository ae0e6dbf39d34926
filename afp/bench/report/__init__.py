"""Scores as pictures: one self-contained HTML file, or a PNG file for each chart."""
