"""Remove old results, ledgers and dead letters."""
