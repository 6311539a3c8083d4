"""The queue between what is scored and what is read."""

import asyncio
import itertools

from hypothesis import given
from hypothesis import strategies as st

from service.api.bulk.spool import Piece, Spool


def piece(number: int, size: int) -> Piece:
    return Piece(1, number, b"x" * size)


@given(
    st.lists(st.integers(0, 30), max_size=30),
    st.integers(1, 40),
    st.lists(st.booleans(), min_size=1, max_size=7),
    st.lists(st.booleans(), min_size=1, max_size=7),
)
def test_pieces_keep_their_order_and_never_exceed_the_bound(sizes, limit, writer_waits, reader_waits):
    """Writer and reader give way to each other in any order."""

    async def scenario():
        spool, found, most = Spool(limit), [], 0
        writer, reader = itertools.cycle(writer_waits), itertools.cycle(reader_waits)

        async def fill():
            for number, size in enumerate(sizes):
                await spool.put(piece(number, size))
                if next(writer):
                    await asyncio.sleep(0)
            spool.end()

        filling = asyncio.create_task(fill())
        while True:
            most = max(most, spool.waiting_bytes)
            if (each := await spool.get()) is None:
                break
            found.append(each.last)
            if next(reader):
                await asyncio.sleep(0)
        await filling
        return found, most, spool.waiting_bytes

    found, most, left = asyncio.run(scenario())
    assert found == list(range(len(sizes)))
    assert most <= max([limit, *sizes])
    assert left == 0
