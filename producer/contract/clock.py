"""Say how closely clients know the one clock, that of the Redis that holds the marks."""

from typing import Final

MAX_WIDTH: Final = 2_000
"""Microseconds between the earliest and the latest time that a client may think it shows.

A client may publish with the latest one as its moment, before the clock has passed it.
"""

DRIFT: Final = 0.000_5
"""How much faster or slower than a machine's own clock it may run at most, as NTP corrects clocks.
"""
