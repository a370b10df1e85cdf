"""Serve HTTP: access, limits, uploads and errors, around the routes of `producer.main`."""
