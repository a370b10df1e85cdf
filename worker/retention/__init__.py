"""Remove results, ledgers and dead letters that are too old."""
