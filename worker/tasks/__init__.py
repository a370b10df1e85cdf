"""Celery's entry points, as thin as a web view: parse, call the service, return."""
