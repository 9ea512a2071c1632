"""Influences over collections of batches, from any influence model."""
