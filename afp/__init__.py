"""Audio fingerprinting for the command line and for Python."""

__version__ = "0.1.0"
