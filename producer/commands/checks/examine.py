"""Run all checks of a set-up for `enroll doctor`.

The checks change nothing, and ask a worker only what any submitter may ask. Checks of the database
itself come from the entry points `enroll.checks`.
"""

import os
from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points

from redis import Redis

from producer.client import EnrollmentClient
from producer.commands.checks.broker import check_redis, registered_database
from producer.commands.checks.lookups import check_lookups
from producer.commands.checks.sentinel import ask_sentinels
from producer.commands.checks.worker import ask_worker
from producer.contract.broker_url import (
    REDIS,
    SENTINEL,
    parse_sentinel_url,
    require_certificate_check,
)
from producer.contract.environment import ignored_variables
from producer.contract.findings import Finding, State, ok
from producer.contract.identity import DatabaseIdentity
from producer.contract.keys import Keys
from producer.contract.lookups import WorkerHealth


def examine(
    client: EnrollmentClient, broker_url: str, timeout: float, keys: Keys
) -> Iterator[Finding]:
    """Check everything that can be seen from here, in the order in which to fix it."""
    yield from _environment()
    broker_works, registered = True, None
    if broker_url.startswith(REDIS):
        url = require_certificate_check(broker_url)
        for finding in _over_redis(client, url, timeout, keys):
            # A full broker does not accept a lookup, so the worker cannot be asked.
            unusable = finding.check in ("sentinel", "broker", "memory")
            if unusable and finding.state is State.WRONG:
                broker_works = False
            yield finding
        if broker_works:
            registered = registered_database(url, keys)
    health = None
    if broker_works:
        health, findings = ask_worker(client)
        yield from findings
    if health is not None:
        yield from check_lookups(client)
    yield from _installed_checks(health, registered)


def _over_redis(
    client: EnrollmentClient, url: str, timeout: float, keys: Keys
) -> Iterator[Finding]:
    """Check the sentinels, if the URL has them, and the server that they name."""
    shown_url = client.shown_url
    if url.startswith(SENTINEL):
        address = parse_sentinel_url(url)
        master, finding = ask_sentinels(address)
        yield finding
        if master is None:
            return
        shown_url, url = f"the master {master[0]}:{master[1]}", address.server(*master)
    with Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout) as redis:
        yield from check_redis(redis, shown_url, keys)


def _environment() -> Iterator[Finding]:
    for name in ignored_variables(os.environ):
        found = f"{name} is set, and ignored: clients and workers use only the URLs given to them"
        yield ok("environment", found)


def _installed_checks(
    health: WorkerHealth | None, registered: DatabaseIdentity | None
) -> Iterable[Finding]:
    for entry_point in entry_points(group="enroll.checks"):
        try:
            check = entry_point.load()
        except ImportError:
            continue  # A submitter's installation has no database driver.
        yield from check(health, registered)
