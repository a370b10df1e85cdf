"""Restore who owns enrollments, and which other data sets name them."""
