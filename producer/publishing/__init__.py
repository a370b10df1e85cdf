"""Publish to the broker: connections, batches, chunks and back-pressure."""
