"""Define the rest of the public contract: routing, batches, chunks, lookups and explanations."""
