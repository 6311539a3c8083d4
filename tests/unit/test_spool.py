"""The queue between what is scored and what is read."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from service.spool import Piece, Spool


def piece(number: int, size: int) -> Piece:
    return Piece(1, number, b"x" * size)


@given(st.lists(st.integers(0, 30), max_size=30), st.integers(1, 40), st.randoms())
def test_pieces_keep_their_order_and_never_exceed_the_bound(sizes, limit, random):
    async def scenario():
        spool, found, most = Spool(limit), [], 0

        async def fill():
            for number, size in enumerate(sizes):
                await spool.put(piece(number, size))
                if random.random() < 0.5:
                    await asyncio.sleep(0)
            spool.end()

        filling = asyncio.create_task(fill())
        while True:
            most = max(most, spool.waiting_bytes)
            if (each := await spool.get()) is None:
                break
            found.append(each.last)
            if random.random() < 0.5:
                await asyncio.sleep(0)
        await filling
        return found, most, spool.waiting_bytes

    found, most, left = asyncio.run(scenario())
    assert found == list(range(len(sizes)))
    assert most <= max([limit, *sizes])
    assert left == 0
