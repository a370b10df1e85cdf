"""Apply the chunks of a batch, record them in its ledger, and report its status."""
