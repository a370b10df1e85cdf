"""Store the lines of a chunk's requests in its ledger entry: one compressed value for a chunk."""

import json
import zlib
from collections.abc import Sequence
from itertools import accumulate
from operator import sub

from producer.contract.chunks import Chunk


def pack_lines(chunk: Chunk) -> bytes | None:
    """Return the lines of a chunk's rows, compressed; None if the requests are numbered through."""
    if not chunk.lines:
        return None
    rows = None if len(chunk.lines) == len(chunk.row_counts) else chunk.row_counts
    # Most lines follow one another, so the steps between them compress well.
    steps = [chunk.lines[0], *map(sub, chunk.lines[1:], chunk.lines)]
    return zlib.compress(json.dumps([steps, rows], separators=(",", ":")).encode(), 1)


def unpack_lines(packed: bytes, position: int) -> Sequence[int]:
    """Return the lines of the request at a position of a chunk: one, or one for each row.

    There are none if the chunk has no such request.
    """
    steps, rows = json.loads(zlib.decompress(packed))
    lines = list(accumulate(steps))
    if rows is None:
        return lines[position : position + 1]
    start = sum(rows[:position])
    return lines[start : start + rows[position]] if position < len(rows) else ()
