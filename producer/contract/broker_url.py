"""Check the URL of a broker, so that every library understands it alike."""

from urllib.parse import parse_qsl, urlsplit

REDIS = ("redis://", "rediss://")
BROKERS = (*REDIS, "amqp://", "amqps://")
CERT_REQS = ("required", "optional", "none")


def check_address(url: str) -> None:
    """Raise ValueError if host and port cannot be read.

    The message does not quote the port: what stands there may be part of a password.
    """
    try:
        urlsplit(url).port  # noqa: B018 - to read it is to check it
    except ValueError:
        raise ValueError(
            "A URL's host and port cannot be read: write redis://USER:PASSWORD@HOST:PORT/0, with"
            " what is special in user and password quoted, as %2F for /."
        ) from None


def require_certificate_check(url: str) -> str:
    """Return the URL in a form that makes every library check the server's certificate.

    Without `ssl_cert_reqs` kombu would not check it, and with a transport of one's own it would
    not even encrypt. Raises ValueError for options that no library understands.
    """
    scheme, _, rest = url.partition("://")
    given = dict(parse_qsl(rest.partition("?")[2], keep_blank_values=True))
    if f"{scheme}://" in REDIS and not all(name.startswith("ssl_") for name in given):
        # Without its name: an unquoted password may be taken for one.
        raise ValueError(
            "After its ? a Redis URL has options that begin with ssl_ and no others; user and"
            " password stand before the host, quoted."
        )
    if scheme == "redis" and given:
        raise ValueError("A URL with ssl_ options must begin with rediss://, else it is no TLS.")
    if scheme != "rediss":
        return url
    if given.get("ssl_cert_reqs", "required") not in CERT_REQS:
        raise ValueError(f"ssl_cert_reqs must be one of {', '.join(CERT_REQS)}.")
    if "ssl_cert_reqs" in given:
        return url
    return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=required"
