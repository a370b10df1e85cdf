"""The same worker with Celery's own transport; what it loses, ours must not lose."""

from worker.app import make_app
from worker.settings import load_settings

app = make_app(load_settings())
app.conf.broker_transport = None
app.conf.broker_transport_options = {
    "visibility_timeout": 5,
    "unacked_restore_interval": 1,
    "unacked_restore_throttle": 1,
    "priority_steps": [0],
}
