"""Apply chunks of a batch, keep its ledger, and report where it stands."""
