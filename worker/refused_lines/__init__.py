"""Store the refused lines of batches, and look them up."""
