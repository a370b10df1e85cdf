"""Results that are not stored, because the ledger and the rows that they opened say the same."""
