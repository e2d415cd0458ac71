"""Inputs for a target by Hypothesis: what is right, damaged a little or a lot, or anything at all."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

LENGTHS = (0, 1, 0x3F, 0x40, 0x7F, 0x80, 0xC0, 0xFE, 0xFF)


@st.composite
def damaged(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """One of the seeds after a few edits: octets set, pieces cut out, doubled, put in."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.integers(0, 5)):
            case 0:
                data[at : at + 1] = bytes((draw(st.integers(0, 255)),))
            case 1:
                data[at : at + 1] = bytes((draw(st.sampled_from(LENGTHS)),))
            case 2:
                del data[at : at + draw(st.integers(1, 16))]
            case 3:
                data[at:at] = data[at : at + draw(st.integers(1, 32))] * draw(st.integers(1, 4))
            case 4:
                data[at:at] = draw(st.binary(max_size=24))
            case _:
                del data[at:]
    return bytes(data)


def inputs(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Mostly damaged seeds."""
    return st.one_of(damaged(seeds), damaged(seeds), damaged(seeds), st.binary(max_size=300))
