"""Publish over the broker: connections, batches, chunks and back-pressure."""
