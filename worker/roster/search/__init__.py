"""Search the roster in SQL."""
