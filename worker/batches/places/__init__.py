"""List batches: those in the ledger, those that are planned, and those that were refused."""
