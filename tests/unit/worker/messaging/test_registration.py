"""When a worker may use its database beside the one that is registered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.contract.identity import DatabaseIdentity
from worker.messaging.registration import why_refused

identities = st.builds(
    DatabaseIdentity,
    id=st.sampled_from(["a" * 32, "b" * 32]),
    cluster=st.sampled_from([None, "7001", "7002"]),
    number=st.sampled_from([5, 16384]),
    place=st.sampled_from(["enrollment at db", "enrollment at standby", "/data/enrollment.db"]),
)


def identity(**changes: object) -> DatabaseIdentity:
    known = {"id": "a" * 32, "cluster": "7001", "number": 5, "place": "enrollment at db"}
    return DatabaseIdentity.model_validate(known | changes)


@given(identities, identities)
def test_a_database_is_refused_exactly_if_something_that_both_know_differs(
    own: DatabaseIdentity, registered: DatabaseIdentity
) -> None:
    known = {own.cluster, registered.cluster} - {None}
    differs = (own.id, own.number) != (registered.id, registered.number) or len(known) > 1
    assert (why_refused(own, registered) is not None) is differs
    assert own.is_same(registered) is registered.is_same(own)


@given(identities)
def test_the_first_database_is_welcome_and_so_is_the_same_one(own: DatabaseIdentity) -> None:
    assert why_refused(own, None) is None
    assert why_refused(own, own) is None


def test_a_promoted_standby_in_another_place_is_the_same_database() -> None:
    assert why_refused(identity(place="enrollment at standby"), identity()) is None


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (identity(id="b" * 32, place="staging at db2"), "is not the one"),
        (identity(number=16384, place="staging at db2"), "is a copy of the one"),
        (identity(cluster="7002", place="staging at db2"), "is a copy of the one"),
    ],
)
def test_the_reason_names_both_and_the_remedy(own: DatabaseIdentity, words: str) -> None:
    reason = str(why_refused(own, identity()))
    assert reason.startswith("The database staging at db2 (identity ")
    assert words in reason
    assert "enrollment at db (identity aaaaaaaa, number 5)" in reason
    assert "enroll database accept" in reason
