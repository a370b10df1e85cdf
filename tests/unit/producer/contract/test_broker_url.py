"""The URLs of brokers: what they say, which are refused, and that no part of a password shows."""

from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import ConnectionPool

from producer.contract.broker_url import (
    BROKERS,
    check_address,
    parse_sentinel_url,
    require_certificate_check,
    scheme_problem,
    shown_url,
)

NAME = "?master_name=enrollment"


def parsed(url: str) -> dict[str, Any]:
    """Return what redis-py understands."""
    options = ConnectionPool.from_url(url).connection_kwargs
    known = ("username", "password", "host", "port", "db", "ssl_ca_certs", "ssl_cert_reqs")
    return {name: options[name] for name in known if name in options}


SAME = [
    f"sentinel://u:p@one:26379,two:26380/2{NAME}",
    f"sentinel://u:p@one,two:26380/2{NAME}",
    f"sentinel://u:p@one:26379/2;sentinel://two:26380/2{NAME}",
    f"sentinel://u:p@one/2{NAME};sentinel://u:p@two:26380/2",
]
"""Spellings of the same address; the last two are kombu's."""


@pytest.mark.parametrize("url", SAME)
def test_every_spelling_gives_the_same_address(url: str) -> None:
    checked = require_certificate_check(url)
    address = parse_sentinel_url(checked)
    assert address == parse_sentinel_url(url) == parse_sentinel_url(SAME[0])
    assert address.master_name == "enrollment"
    assert [parsed(sentinel)["port"] for sentinel in address.sentinels] == [26379, 26380]
    server = parsed(address.server("three", 6379))
    assert server == {"username": "u", "password": "p", "host": "three", "port": 6379, "db": 2}
    assert address.shown == f"sentinel://one:26379,two:26380/2{NAME}"
    assert address.first == "sentinel://one:26379/2"


def test_addresses_may_be_of_ipv6() -> None:
    address = parse_sentinel_url(f"sentinel://[::1]:1,[::2]{NAME}")
    assert [parsed(url)["host"] for url in address.sentinels] == ["::1", "::2"]
    assert parsed(address.server("::3", 6379))["host"] == "::3"


def test_tls_is_for_sentinels_and_servers_and_checks_certificates() -> None:
    url = require_certificate_check(f"sentinels://one,two/0{NAME}&ssl_ca_certs=%2Fca.pem")
    address = parse_sentinel_url(url)
    for made in (*address.sentinels, address.server("three", 6379)):
        assert made.startswith("rediss://")
        options = parsed(made)
        assert (options["ssl_ca_certs"], options["ssl_cert_reqs"]) == ("/ca.pem", "required")


passwords = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


@given(user=passwords, password=passwords, own_user=passwords, own=passwords)
def test_any_password_arrives_and_none_is_shown(
    user: str, password: str, own_user: str, own: str
) -> None:
    user, password, own_user, own = (f"secret{text}" for text in (user, password, own_user, own))
    quoted = [quote(text, safe="") for text in (user, password, own_user, own)]
    url = require_certificate_check(
        f"sentinel://{quoted[0]}:{quoted[1]}@h1,h2/0{NAME}"
        f"&sentinel_username={quoted[2]}&sentinel_password={quoted[3]}"
    )
    address = parse_sentinel_url(url)
    server = parsed(address.server("h3", 6379))
    assert (server["username"], server["password"]) == (user, password)
    for sentinel in map(parsed, address.sentinels):
        assert (sentinel["username"], sentinel["password"]) == (own_user, own)
    assert "secret" not in repr(address)


BAD = {
    "no name": ("sentinel://:hunter2@h/0", "does not name the master"),
    "an empty name": ("sentinel://:hunter2@h/0?master_name=", "does not name the master"),
    "no host": (f"sentinel://:hunter2@/0{NAME}", "hosts and ports"),
    "an empty host": (f"sentinel://:hunter2@h1,,h2/0{NAME}", "hosts and ports"),
    "a port that is none": (f"sentinel://h:hunter2/0{NAME}", "hosts and ports"),
    "a database that is none": (f"sentinel://h/hunter2{NAME}", "hosts and ports"),
    "an unquoted /": (f"sentinel://:x/hunter2@h/0{NAME}", "hosts and ports"),
    "an unquoted ;": (f"sentinel://:x;hunter2@h/0{NAME}", "hosts and ports"),
    "an unquoted [": (f"sentinel://:x[hunter2@h/0{NAME}", "hosts and ports"),
    "two users": (f"sentinel://a:hunter2@h/0{NAME};sentinel://b:hunter2@g/0", "hosts and ports"),
    "two databases": (f"sentinel://:hunter2@h/0{NAME};sentinel://g/1", "hosts and ports"),
    "two schemes": (f"sentinel://:hunter2@h/0{NAME};sentinels://g/0", "hosts and ports"),
    "an unquoted ?": (f"sentinel://:x?hunter2=y@h/0{NAME}", "percent-encode"),
    "another option": (f"sentinel://h/0{NAME}&password=hunter2", "only master_name, sentinel_"),
    "TLS by half": (f"sentinel://h/0{NAME}&ssl_ca_certs=hunter2", "begin with sentinels://"),
    "TLS, perhaps": (f"sentinels://h/0{NAME}&ssl_cert_reqs=hunter2", "one of required"),
}


@pytest.mark.parametrize(("url", "rule"), BAD.values(), ids=BAD)
def test_a_bad_url_is_refused_without_being_quoted(url: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule) as caught:
        check_address(require_certificate_check(url))
    assert "hunter2" not in str(caught.value)


def message_and_host(url: str) -> tuple[str, str | None]:
    """Return what messages show of a URL and the host that it leads to, or why it is refused."""
    try:
        checked = require_certificate_check(url)
    except ValueError as error:
        return str(error), None
    return shown_url(checked), urlsplit(checked).hostname


@pytest.mark.parametrize("scheme", ["redis", "rediss", "amqp", "amqps"])
@given(
    user=st.text("ab1:", max_size=3),
    start=st.text("0123456789/?#@:;[]&= \n", max_size=5),
    end=st.text("ab0/?#@:;[]&=", max_size=5),
)
def test_a_password_that_is_not_encoded_arrives_whole_or_is_refused(
    scheme: str, user: str, start: str, end: str
) -> None:
    password = f"{start}hunter2{end}"
    url = f"{scheme}://{user}:{password}@one.example:6379/0"
    message, host = message_and_host(url)
    assert "hunter2" not in message
    assert host in (None, "one.example")


UNREADABLE = {
    "digits before an unquoted /": ("redis://u:12/hunter2@h:6379/0", "redis://USER"),
    "nothing before an unquoted /": ("redis://:/hunter2@h:6379/0", "redis://USER"),
    "digits before an unquoted #": ("rediss://u:12#hunter2@h:6379/0", "rediss?://USER"),
    "digits before an unquoted ?": ("amqp://u:12?hunter2@h:5672//", "amqp://USER"),
    "a database that is a word": ("redis://h:6379/hunter2", "must be a number"),
    "a negative database": ("redis://h:6379/-1", "must be a number"),
    "a database with a path": ("redis://h:6379/0/hunter2", "must be a number"),
}


@pytest.mark.parametrize(("url", "rule"), UNREADABLE.values(), ids=UNREADABLE)
def test_an_address_that_cannot_be_read_is_refused_without_being_quoted(
    url: str, rule: str
) -> None:
    with pytest.raises(ValueError, match=rule) as caught:
        require_certificate_check(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h", "redis://h"),
        ("redis://:hunter2@h:6379/0", "redis://:**@h:6379/0"),
        ("redis://u:hun%2Fter2@h:6379/0", "redis://u:**@h:6379/0"),
        ("rediss://u@[::1]:6379/3?ssl_ca_certs=/ca.pem", "rediss://u@[::1]:6379/3"),
        ("amqp://u:hunter2@h:5672//", "amqp://u:**@h:5672//"),
        ("amqp://h/staging", "amqp://h/staging"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    assert shown_url(require_certificate_check(url)) == shown


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("postgres://app:hunter2@h/name", "the URL of a database"),
        ("postgresql+psycopg://app:hunter2@h/name", "the URL of a database"),
        ("sqlite:////file.db", "the URL of a database"),
        ("https://app:hunter2@h/", "the URL of an HTTP server"),
        ("valkeys://:hunter2@h:6379/0", "write redis:// or rediss://"),
        ("redis+socket:///run/redis.sock", "Unix socket"),
        ("hunter2@h:6379", ""),
        ("redis:hunter2@h:6379", ""),
        ("", ""),
    ],
)
def test_a_url_of_something_else_is_refused_with_what_it_is(url: str, remedy: str) -> None:
    problem = scheme_problem(url, BROKERS)
    assert problem is not None
    assert "redis://" in problem
    assert remedy in problem
    assert "hunter2" not in problem
