"""Decide requests: the one rulebook, its shortcut for batches, and the stored results."""
