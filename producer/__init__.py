"""Publish enrollment requests and read their results: the part that upstream systems install."""
