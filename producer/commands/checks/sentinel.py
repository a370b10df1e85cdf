"""Check what the sentinels say about the master."""

from collections import Counter

from producer.contract.broker_url import SentinelAddress
from producer.contract.findings import Finding, State
from producer.contract.sentinels import MasterLookup, describe_problems


def ask_sentinels(address: SentinelAddress) -> tuple[tuple[str, int] | None, Finding]:
    """Return the master's host and port, or None, and a finding about it."""
    replies = list(MasterLookup(address).ask_all())
    named = Counter(reply.master for reply in replies if reply.master is not None)
    problems = describe_problems(replies)
    addresses = " and ".join(f"{host}:{port}" for host, port in sorted(named))
    found = f"{named.total()} of {len(replies)} sentinels name {addresses} as the master"
    found, state, remedy = f"{found} {address.master_name}", State.OK, ""
    if not named:
        state, found = State.WRONG, f"no sentinel names the master ({problems})"
        remedy = (
            "Start the sentinels, or correct their addresses and password in ENROLL_BROKER_URL."
        )
        if any(reply.unknown for reply in replies):
            remedy = (
                "Correct master_name in ENROLL_BROKER_URL: it is the NAME in the line"
                " `sentinel monitor NAME …` of the sentinels."
            )
    elif len(named) > 1:
        state = State.WARNING
        remedy = (
            "A failover may be under way: run doctor again in a minute. If the sentinels still"
            " differ, check that they reach each other."
        )
    elif problems:
        state, found = State.WARNING, f"{found} ({problems})"
        remedy = (
            "Start these sentinels, or correct their addresses and password in ENROLL_BROKER_URL:"
            " they replace a lost master only if most of them agree."
        )
    master = named.most_common(1)[0][0] if named else None
    return master, Finding(check="sentinel", state=state, found=found, remedy=remedy)
