"""Define Celery's entry points, as thin as web views: parse, call the service, return."""
