"""Store messages and records that could not be processed, whole and with the reason."""
