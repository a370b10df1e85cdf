"""Show batches that are members of plans."""
