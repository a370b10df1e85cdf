"""TLS to Redis and to PostgreSQL, on both sides: certificates are checked, and it really is TLS."""

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import Result

from producer.client import EnrollmentClient
from producer.errors import BrokerUnavailable, NoWorkerAnswered
from support.commands import invoke_enroll
from support.relay import Relay, make_certificates
from support.rosters import enter_roster
from support.workers import running_worker
from worker.settings import SettingsError, load_settings


class Certificates(NamedTuple):
    """The authority that a client trusts, and what a server shows."""

    authority: Path
    server: ssl.SSLContext


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(*make_certificates(tmp_path_factory.mktemp("certificates")))


@pytest.fixture
def redis(broker_url: str, certificates: Certificates) -> Iterator[Relay]:
    """A relay to the broker that accepts only TLS."""
    with Relay(("127.0.0.1", urlsplit(broker_url).port or 0), certificates.server) as relay:
        yield relay


@pytest.fixture
def postgresql(
    new_database: Callable[[str], str], certificates: Certificates
) -> Iterator[tuple[Relay, str]]:
    """The same for PostgreSQL, and the name of a database."""
    url = urlsplit(new_database("postgresql"))
    folder = parse_qs(url.query)["host"][0]
    port = url.port or 5432
    with Relay(f"{folder}/.s.PGSQL.{port}", certificates.server, postgres=True) as relay:
        yield relay, url.path[1:]


def test_a_worker_and_a_client_work_over_tls(
    redis: Relay, postgresql: tuple[Relay, str], certificates: Certificates, tmp_path: Path
) -> None:
    to_database, name = postgresql
    broker = f"rediss://127.0.0.1:{redis.port}/0?ssl_ca_certs={certificates.authority}"
    database = f"postgresql://postgres@127.0.0.1:{to_database.port}/{name}"
    database += f"?sslmode=verify-full&sslrootcert={certificates.authority}"
    log = tmp_path / "log"
    with (
        running_worker(broker, database, log, "--concurrency=2"),
        EnrollmentClient(broker, timeout=20) as client,
    ):
        enter_roster(client, ["S"], ["C"])
        outcome = client.enroll({"student_id": "S", "course_ids": ["C"]})
        assert outcome.status == "enrolled"
        assert client.status(outcome.request_id).state == "done"
    assert redis.connections > 5  # Several for each process of the worker, and the client's.
    assert to_database.connections > 1
    assert "insecure" not in log.read_text()


@pytest.mark.parametrize("options", ["", "?ssl_check_hostname=false"])
def test_a_certificate_of_an_unknown_authority_is_refused(redis: Relay, options: str) -> None:
    """redis-py, which writes the mark, and kombu, which publishes, both refuse the connection."""
    why = "CERTIFICATE_VERIFY_FAILED"
    with EnrollmentClient(f"rediss://127.0.0.1:{redis.port}/0{options}") as client:
        with pytest.raises(BrokerUnavailable, match=why):
            client.submit({"student_id": "S", "course_ids": ["C"]})
        with pytest.raises(BrokerUnavailable, match=why):
            client.status("x")


def test_a_certificate_for_another_host_is_refused(broker_url: str, tmp_path: Path) -> None:
    authority, server = make_certificates(tmp_path, "DNS:elsewhere.example")
    with Relay(("127.0.0.1", urlsplit(broker_url).port or 0), server) as relay:
        url = f"rediss://127.0.0.1:{relay.port}/0?ssl_ca_certs={authority}"
        with EnrollmentClient(url) as client, pytest.raises(BrokerUnavailable, match="mismatch"):
            client.status("x")
        careless = f"{url}&ssl_check_hostname=false"
        with EnrollmentClient(careless, timeout=0.1) as client, pytest.raises(NoWorkerAnswered):
            client.status("x")


def test_without_a_check_of_the_certificate_the_host_is_not_checked_either(
    broker_url: str, tmp_path: Path
) -> None:
    """It takes no second option: redis-py looks up the status, and kombu publishes the lookup."""
    _, server = make_certificates(tmp_path, "DNS:elsewhere.example")
    with Relay(("127.0.0.1", urlsplit(broker_url).port or 0), server) as relay:
        url = f"rediss://127.0.0.1:{relay.port}/0?ssl_cert_reqs=none"
        with EnrollmentClient(url, timeout=0.1) as client, pytest.raises(NoWorkerAnswered):
            client.status("x")


def test_a_connection_without_tls_is_refused(redis: Relay, postgresql: tuple[Relay, str]) -> None:
    url = f"redis://127.0.0.1:{redis.port}/0"
    with EnrollmentClient(url) as client, pytest.raises(BrokerUnavailable):
        client.status("x")
    to_database, name = postgresql
    url = f"postgresql://postgres@127.0.0.1:{to_database.port}/{name}?sslmode=disable"
    assert operate(url).exit_code == 3


def operate(url: str) -> Result:
    """Run an operator's command; its exit code is 0 if it reached the database."""
    return invoke_enroll("dead-letters", "list", ENROLL_DATABASE_URL=url)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("sslmode=require", None),
        ("sslmode=verify-ca&sslrootcert={authority}", None),
        ("sslmode=verify-full&sslrootcert={authority}", None),
        ("sslmode=verify-full&sslrootcert=/nowhere.pem", "does not exist"),
        ("sslmode=verify-full&sslrootcert={other}", "certificate"),
        ("sslmode=sometimes", "sslmode"),
    ],
)
def test_a_connection_to_postgresql_follows_its_sslmode(
    postgresql: tuple[Relay, str],
    certificates: Certificates,
    tmp_path: Path,
    options: str,
    words: str | None,
) -> None:
    other, _ = make_certificates(tmp_path)
    given = options.format(authority=certificates.authority, other=other)
    to_database, name = postgresql
    ended = operate(f"postgresql://postgres@127.0.0.1:{to_database.port}/{name}?{given}")
    if words is None:
        assert ended.exit_code == 0, ended.stderr
        assert to_database.connections == 1
    else:
        assert ended.exit_code == 3
        assert words in ended.stderr


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://h/0?ssl_ca_certs=/ca.pem", "must begin with rediss://"),
        ("rediss://h/0?ssl_cert_reqs=maybe", "ssl_cert_reqs must be one of required, optional"),
    ],
)
def test_client_and_worker_reject_an_invalid_url(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EnrollmentClient(url)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ENROLL_BROKER_URL", url)
        environment.setenv("ENROLL_DATABASE_URL", "sqlite:////x.db")
        with pytest.raises(SettingsError, match=rf"ENROLL_BROKER_URL: .*{words}"):
            load_settings()
