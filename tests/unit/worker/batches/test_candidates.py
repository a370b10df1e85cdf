"""What happened to an id is undone: the id that was meant is among those that are tried."""

from collections.abc import Callable

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from producer.contract.batches import Cause
from worker.batches.candidates import (
    MAX_CANDIDATES,
    MAX_ZEROS,
    candidates,
    differences,
    is_scientific,
    outline,
    rounded_ranges,
)

Ids = st.SearchStrategy[str]
Change = Callable[[str, int], str]
"""Changes an id in one of several ways; the number says which."""

NUMBERS = st.from_regex(r"[1-9][0-9]{0,11}", fullmatch=True)
CODES = st.from_regex(r"[A-Z0-9]([A-Z0-9._/-]{0,12}[A-Z0-9])?", fullmatch=True)
ZEROS = st.sampled_from(["0", "00", "000"])
PADDED_NUMBERS = st.builds("{}{}".format, ZEROS, NUMBERS)
PADDED = PADDED_NUMBERS | st.builds(
    "{}{}".format, ZEROS, CODES.filter(lambda code: not code.startswith("0"))
)
UNSEEN = (
    "\u00a0 \t\u2009\u3000\u202f\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202e\u2060\u2066\ufeff"
    "\u034f\u3164\ufe0f"
)
PAIRS_OF_QUOTES = ['="{}"', '"{}"', "'{}", "\u201c{}\u201d", "\u00ab{}\u00bb", "'{}'", "={}"]


def unseen(sis_id: str, number: int) -> str:
    position = number // len(UNSEEN) % (len(sis_id) + 1)
    return sis_id[:position] + UNSEEN[number % len(UNSEEN)] + sis_id[position:]


CHANGES: dict[Cause, tuple[Ids, Change]] = {
    Cause.LEADING_ZEROS_LOST: (PADDED, lambda i, _: i.lstrip("0")),
    Cause.LEADING_ZEROS_ADDED: (NUMBERS | CODES, lambda i, n: "0" * (1 + n % MAX_ZEROS) + i),
    Cause.LETTER_CASE: (CODES, lambda i, n: [i.lower(), i.capitalize()][n % 2]),
    Cause.SPACES: (NUMBERS | CODES | PADDED, unseen),
    Cause.LOOK_ALIKE: (
        st.builds("{}-{}".format, CODES, CODES),
        lambda i, n: i.replace("-", "\u2010\u2013\u2014\u2212"[n % 4]),
    ),
    Cause.DECIMALS: (NUMBERS | PADDED_NUMBERS, lambda i, n: i + [".0", ".00", ",0"][n % 3]),
    Cause.SCIENTIFIC: (
        st.builds("{}{}".format, st.from_regex(r"[1-9][0-9]{2}", fullmatch=True), st.just("000")),
        lambda i, n: [f"{int(i):.2E}", f"{int(i):.3e}", f"{int(i):.2E}".replace(".", ",")][n % 3],
    ),
    Cause.QUOTED: (
        NUMBERS | CODES | PADDED,
        lambda i, n: PAIRS_OF_QUOTES[n % len(PAIRS_OF_QUOTES)].format(i),
    ),
    Cause.THOUSANDS: (
        st.from_regex(r"[1-9][0-9]{3,11}", fullmatch=True),
        lambda i, n: f"{int(i):,}".replace(",", ",.'_\u2019"[n % 5]),
    ),
}
WAYS = st.integers(0, 10_000)


@pytest.mark.parametrize("cause", CHANGES)
@given(data=st.data(), way=WAYS)
def test_a_changed_id_is_traced_back_to_its_cause(
    cause: Cause, data: st.DataObject, way: int
) -> None:
    ids, change = CHANGES[cause]
    sis_id = data.draw(ids)
    changed = change(sis_id, way)
    # A change leaves some ids as they are, for example an id without letters in lower case.
    assume(changed != sis_id and changed.lstrip("0"))
    assert candidates(changed)[sis_id] == (cause,)


TWO_CHANGES = [
    (Cause.LEADING_ZEROS_LOST, Cause.DECIMALS),
    (Cause.LEADING_ZEROS_LOST, Cause.SPACES),
    (Cause.LETTER_CASE, Cause.SPACES),
    (Cause.LETTER_CASE, Cause.QUOTED),
    (Cause.LEADING_ZEROS_LOST, Cause.QUOTED),
    (Cause.DECIMALS, Cause.QUOTED),
    (Cause.DECIMALS, Cause.SPACES),
    (Cause.THOUSANDS, Cause.QUOTED),
    (Cause.SCIENTIFIC, Cause.QUOTED),
]


@pytest.mark.parametrize("causes", TWO_CHANGES)
@given(data=st.data(), ways=st.tuples(WAYS, WAYS))
def test_two_changes_are_traced_back_to_both(
    causes: tuple[Cause, Cause], data: st.DataObject, ways: tuple[int, int]
) -> None:
    (ids, first), (_, second) = (CHANGES[cause] for cause in causes)
    if Cause.DECIMALS in causes:
        ids = PADDED_NUMBERS
    sis_id = data.draw(ids)
    once = first(sis_id, ways[0])
    twice = second(once, ways[1])
    assume(len({sis_id, once, twice}) == 3 and once)
    assert set(candidates(twice).get(sis_id, ())) == set(causes)


@given(st.text(max_size=255))
@example("0" * 255)
@example("1,1" * 85)
@example("9E99")
@example("0" * 250 + "1.0")
def test_the_work_for_an_id_is_bounded(text: str) -> None:
    found = candidates(text)
    assert text not in found
    assert len(found) <= MAX_CANDIDATES
    assert all(1 <= len(causes) <= 2 for causes in found.values())
    assert list(map(len, found.values())) == sorted(map(len, found.values()))


@given(st.integers(10**5, 10**15), st.integers(1, 4), st.integers(0, MAX_ZEROS))
@example(99_999_999, 2, 0)
def test_a_number_is_in_a_range_of_its_rounded_form(number: int, digits: int, zeros: int) -> None:
    ranges = rounded_ranges(f"{number:.{digits}E}")
    assert all(len(least) == len(largest) for least, largest in ranges)
    text = "0" * zeros + str(number)
    found = [len(text) == len(least) and least <= text <= largest for least, largest in ranges]
    # A number such as 99,999,999 is rounded up to one with more digits, and is not found.
    assert sum(found) == (len(str(number)) == len(ranges[0][0]))


@pytest.mark.parametrize("text", ["12E3", "1.5", "S1", "1E-05", "1.23E+01", "E+05", ""])
def test_a_number_that_lost_no_digits_has_no_ranges(text: str) -> None:
    assert rounded_ranges(text) == []
    assert is_scientific(text) == (text == "1.23E+01")


@pytest.mark.parametrize(
    ("one", "two", "causes"),
    [
        ("math 101", "MATH101", (Cause.LETTER_CASE, Cause.SPACES)),
        ("aBc", "AbC", (Cause.LETTER_CASE,)),
        ("00000000000000001", "1", (Cause.LEADING_ZEROS_ADDED,)),
        ("1", "00000000000000001", (Cause.LEADING_ZEROS_LOST,)),
        ("A\u20131", "A-1", (Cause.LOOK_ALIKE,)),
        ("STRASSE", "stra\u00dfe", (Cause.LETTER_CASE,)),
    ],
)
def test_ids_with_the_same_outline_differ_in_named_ways(
    one: str, two: str, causes: tuple[Cause, ...]
) -> None:
    assert outline(one) == outline(two)
    assert differences(one, two) == causes


@given(st.text(min_size=1))
@example("\ufb01")
def test_ids_differ_in_named_ways_exactly_if_they_are_not_equal(sis_id: str) -> None:
    assert differences(sis_id, sis_id) == ()
    for other in (sis_id.casefold(), f"0{sis_id}", f"{sis_id}\u200b", sis_id.upper()):
        if other != sis_id and outline(other) == outline(sis_id):
            assert differences(sis_id, other) != ()
