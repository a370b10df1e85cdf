"""Surround the routes of `producer.main` with access, limits, uploads and problems."""
