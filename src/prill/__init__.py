"""Prill: find the training data that makes the best language model for each target, and prove it."""

__version__ = "0.1.0"
__all__ = ["__version__"]
