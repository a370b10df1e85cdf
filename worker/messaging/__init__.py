"""Make Celery and Redis safe: receive, check, group and acknowledge messages."""
