"""The same worker with kombu's own transport; ours must not lose the messages that it loses."""

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
