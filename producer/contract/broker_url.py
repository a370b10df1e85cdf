"""Check the URL of a broker, so that every library understands it in the same way."""

from urllib.parse import parse_qsl, urlsplit

REDIS = ("redis://", "rediss://")
BROKERS = (*REDIS, "amqp://", "amqps://")
CERT_REQS = ("required", "optional", "none")


def check_address(url: str) -> None:
    """Raise ValueError if the host and port of a URL cannot be read.

    The message does not quote the port, because a part of a password may be in its place.
    """
    try:
        urlsplit(url).port  # noqa: B018 - reading the port checks it
    except ValueError:
        raise ValueError(
            "The host and port of the URL cannot be read. Write the URL in the form"
            " redis://USER:PASSWORD@HOST:PORT/0, and percent-encode special characters in the"
            " user and password, for example / as %2F."
        ) from None


def require_certificate_check(url: str) -> str:
    """Return the URL in a form that makes every library check the server's certificate.

    Without `ssl_cert_reqs`, kombu would not check the certificate, and with a custom transport it
    would not even encrypt. Raises ValueError for options that do not belong in the URL.
    """
    scheme, _, rest = url.partition("://")
    options = dict(parse_qsl(rest.partition("?")[2], keep_blank_values=True))
    if f"{scheme}://" in REDIS and not all(name.startswith("ssl_") for name in options):
        # The message does not name the option, which may be a piece of an unencoded password.
        raise ValueError(
            "After the ? of a Redis URL, only options that begin with ssl_ are allowed. Put the"
            " user and password before the host, percent-encoded: ? is written as %3F."
        )
    if scheme == "redis" and options:
        raise ValueError("A URL with ssl_ options must begin with rediss://, which turns on TLS.")
    if scheme != "rediss":
        return url
    if options.get("ssl_cert_reqs", "required") not in CERT_REQS:
        raise ValueError(f"The URL's option ssl_cert_reqs must be one of {', '.join(CERT_REQS)}.")
    if "ssl_cert_reqs" in options:
        return url
    return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=required"
