"""Make Celery and Redis safe: take, check, group and acknowledge messages."""
