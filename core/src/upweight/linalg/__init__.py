"""Solves with symmetric matrices, on arrays of any framework: rows in, rows out."""
