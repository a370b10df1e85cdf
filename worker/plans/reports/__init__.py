"""Show plans: the state and report of each, and its planned drops."""
