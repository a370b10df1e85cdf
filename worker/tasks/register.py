"""Register all tasks with the app, under their fixed names."""

from celery import Celery

from producer.schemas import Kind
from worker.tasks.chunks import register_chunks
from worker.tasks.lookups import register_lookups
from worker.tasks.plans import register_plans
from worker.tasks.requests import register_requests
from worker.tasks.services import Services
from worker.tasks.undos import register_undos


def register(app: Celery, services: Services) -> None:
    """Register all tasks; each of them uses these services."""
    register_requests(app, services)
    for kind in Kind:
        register_chunks(app, services, kind)
    register_lookups(app, services)
    register_plans(app, services)
    register_undos(app, services)
