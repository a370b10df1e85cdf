"""Check the URL of a broker, so that every library understands it in the same way."""

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

SENTINEL = ("sentinel://", "sentinels://")
REDIS = ("redis://", "rediss://", *SENTINEL)
BROKERS = (*REDIS, "amqp://", "amqps://")
TLS = ("rediss://", "sentinels://")
CERT_REQS = ("required", "optional", "none")
SENTINEL_PORT = 26379
SENTINEL_OPTIONS = ("master_name", "sentinel_username", "sentinel_password")


@dataclass(frozen=True)
class SentinelAddress:
    """The parts of a sentinel URL: `sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/0?master_name=NAME`.

    User and password are those of the Redis servers; the sentinels' own are the options
    `sentinel_username` and `sentinel_password`. With `sentinels://`, the connections to both are
    encrypted.
    """

    master_name: str
    shown: str
    """The URL without secrets, for messages."""
    first: str
    """The URL of the first sentinel alone, without secrets."""
    sentinels: tuple[str, ...] = field(repr=False)
    """A Redis URL for each sentinel."""
    servers: tuple[str, str] = field(repr=False)
    """What stands before and after the address in the Redis URL of each server."""

    def server(self, host: str, port: int) -> str:
        """Return the Redis URL of a server that the sentinels named."""
        before, after = self.servers
        return f"{before}[{host}]:{port}{after}" if ":" in host else f"{before}{host}:{port}{after}"


_OTHER_SYSTEMS = {
    ("postgres", "sqlite", "mysql", "mariadb"): "this is the URL of a database",
    ("http",): "this is the URL of an HTTP server",
    ("valkey",): "for Valkey, too, write redis:// or rediss://",
    ("unix", "redis+socket"): "a broker behind a Unix socket cannot be used",
}
"""What to say about schemes that are often written in place of a broker's."""


def scheme_problem(url: str, schemes: tuple[str, ...]) -> str | None:
    """Return what is wrong with a URL, or None if it may be one and has one of these schemes.

    The text quotes nothing, because anything may be part of a password.
    """
    if (problem := hidden_character_problem(url)) is not None:
        return problem
    if url.startswith(schemes):
        return None
    hints = [hint for names, hint in _OTHER_SYSTEMS.items() if url.lower().startswith(names)]
    return "; ".join([f"must begin with one of {', '.join(schemes)}", *hints])


def hidden_character_problem(url: str) -> str | None:
    """Return what is wrong with a URL that has a space or an invisible character, or else None."""
    if all(character.isprintable() and not character.isspace() for character in url):
        return None
    return (
        "contains a space, a line end or an invisible character; remove it, or percent-encode it if"
        " it belongs to the password, for example a space as %20"
    )


def check_address(url: str) -> None:
    """Raise ValueError if the hosts, ports or database of a URL cannot be read.

    The message quotes nothing. With an unencoded `/`, `?` or `#` in a password, its beginning would
    be taken for a host and port, and the rest of it for a database.
    """
    if url.startswith(SENTINEL):
        parse_sentinel_url(url)
        return
    over_redis = url.startswith(REDIS)
    try:
        split = urlsplit(url)
        has_port = split.port != 0
    except ValueError:
        raise _unreadable_host(over_redis=over_redis) from None
    # The options after the ? of a Redis URL are checked by `require_certificate_check`.
    after_host = split.path if over_redis else f"{split.path}?{split.query}"
    if not has_port or "@" in after_host or "#" in url:
        raise _unreadable_host(over_redis=over_redis)
    database = split.path.strip("/")
    if over_redis and database and not (database.isascii() and database.isdigit()):
        raise ValueError(
            "The database of the URL must be a number, such as the 0 in redis://HOST:PORT/0."
        )


def _unreadable_host(*, over_redis: bool) -> ValueError:
    form = "redis://USER:PASSWORD@HOST:PORT/0" if over_redis else "amqp://USER:PASSWORD@HOST:PORT//"
    return ValueError(
        f"The host and port of the URL cannot be read. Write the URL in the form {form}, and"
        " percent-encode special characters in the user and password, for example / as %2F."
    )


def shown_url(url: str) -> str:
    """Return a checked URL for messages, without its password and options."""
    if url.startswith(SENTINEL):
        return parse_sentinel_url(url).shown
    split = urlsplit(url)
    login, at, host = split.netloc.rpartition("@")
    user, colon, _ = login.partition(":")
    return f"{split.scheme}://{user}{colon and ':**'}{at}{host}{split.path}"


def require_certificate_check(url: str) -> str:
    """Return the URL in a form that makes every library check the server's certificate.

    Without `ssl_cert_reqs`, kombu would not check the certificate, and with a custom transport it
    would not even encrypt. Raises ValueError for an address that cannot be read, and for options
    that do not belong in the URL.
    """
    if url.startswith(SENTINEL):
        url = _joined(url)
    scheme, _, rest = url.partition("://")
    options = dict(parse_qsl(rest.partition("?")[2], keep_blank_values=True))
    own = SENTINEL_OPTIONS if url.startswith(SENTINEL) else ()
    ssl_options = {name for name in options if name not in own}
    if url.startswith(REDIS) and not all(name.startswith("ssl_") for name in ssl_options):
        allowed = ", ".join((*own, "and options" if own else "options"))
        # The message does not name the option, which may be a piece of an unencoded password.
        raise ValueError(
            f"After the ? of this URL, only {allowed} that begin with ssl_ are allowed. Put the"
            " user and password before the host, percent-encoded: ? is written as %3F."
        )
    if url.startswith(REDIS) and not url.startswith(TLS) and ssl_options:
        raise ValueError(
            f"A URL with ssl_ options must begin with {scheme}s://, which turns on TLS."
        )
    check_address(url)
    if not url.startswith(TLS):
        return url
    if options.get("ssl_cert_reqs", "required") not in CERT_REQS:
        raise ValueError(f"The URL's option ssl_cert_reqs must be one of {', '.join(CERT_REQS)}.")
    if "ssl_cert_reqs" in options:
        return url
    return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=required"


def parse_sentinel_url(url: str) -> SentinelAddress:
    """Return the parts of a URL that begins with sentinel:// or sentinels://.

    kombu's form, `sentinel://HOST:PORT/0;sentinel://HOST:PORT/0?master_name=NAME`, is understood as
    well. Raises ValueError; the message quotes nothing, because anything may be part of a password.
    """
    split = urlsplit(_joined(url))
    user, _, netloc = split.netloc.rpartition("@")
    hosts = [_host_and_port(host) for host in netloc.split(",")]
    options = dict(parse_qsl(split.query, keep_blank_values=True))
    name = options.get("master_name", "")
    database = split.path.strip("/") or "0"
    if not name:
        raise ValueError(
            "The URL does not name the master. Write the URL in the form"
            f" {split.scheme}://USER:PASSWORD@HOST:{SENTINEL_PORT},HOST:{SENTINEL_PORT}/0"
            "?master_name=NAME, with the NAME of `sentinel monitor NAME` in the sentinels'"
            " configuration."
        )
    if not (database.isascii() and database.isdigit()):
        raise _unreadable(split.scheme)
    scheme = "rediss" if f"{split.scheme}://" in TLS else "redis"
    query = urlencode({name: text for name, text in options.items() if name.startswith("ssl_")})
    own_user = ":".join(
        quote(options.get(option, ""), safe="")
        for option in ("sentinel_username", "sentinel_password")
    )
    shown = f"{split.scheme}://{','.join(hosts)}/{database}?{urlencode({'master_name': name})}"
    return SentinelAddress(
        master_name=name,
        shown=shown,
        first=f"{split.scheme}://{hosts[0]}/{database}",
        servers=(f"{scheme}://{user and f'{user}@'}", f"/{database}?{query}"),
        sentinels=tuple(f"{scheme}://{own_user}@{host}/?{query}" for host in hosts),
    )


def _joined(url: str) -> str:
    """Return kombu's form of a sentinel URL, one URL per sentinel, as one URL with many hosts."""
    try:
        parts = [urlsplit(part) for part in url.split(";") if part]
    except ValueError:
        raise _unreadable("sentinel") from None
    first = parts[0]
    users = {part.netloc.rpartition("@")[0] for part in parts} - {""}
    paths = {part.path.strip("/") for part in parts} - {""}
    if len(users) > 1 or len(paths) > 1 or {part.scheme for part in parts} != {first.scheme}:
        raise _unreadable(first.scheme)
    netlocs = ",".join(part.netloc.rpartition("@")[2] for part in parts)
    query = "&".join(part.query for part in parts if part.query)
    user = "".join(f"{user}@" for user in users)
    return f"{first.scheme}://{user}{netlocs}/{''.join(paths)}{query and f'?{query}'}"


def _host_and_port(text: str) -> str:
    """Return HOST:PORT, with the sentinels' own port by default. Raises ValueError."""
    try:
        split = urlsplit(f"//{text}")
        host, port = split.hostname, split.port or SENTINEL_PORT
    except ValueError:
        host = None
    if not host:
        raise _unreadable("sentinel")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _unreadable(scheme: str) -> ValueError:
    return ValueError(
        "The hosts and ports of the URL cannot be read. Write the URL in the form"
        f" {scheme}://USER:PASSWORD@HOST:{SENTINEL_PORT},HOST:{SENTINEL_PORT}/0?master_name=NAME,"
        " and percent-encode special characters in the user and password, for example / as %2F."
    )
