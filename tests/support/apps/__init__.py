"""Celery apps for `celery -A support.apps.NAME`: our worker with one thing changed."""
