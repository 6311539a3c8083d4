"""How the re-ranking calls of one client run: breaker, hedged request, fallback, counts. Knows no HTTP.

Runs on one event loop: that of an `AsyncClient`, or the loop that a `Client` keeps for it.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from relevance.client.breaker import Breaker, HedgeAllowance
from relevance.client.calls import RerankCall
from relevance.client.exchange import Exchange
from relevance.client.rerank import NO_CANDIDATES, RerankAnswer, RerankCounter, RerankResult
from relevance.client.types import ClientError

Send = Callable[[Exchange[RerankAnswer]], Coroutine[Any, Any, RerankAnswer]]  # raises ClientError, at the deadline too


class Reranking:
    """What a client remembers from one re-ranking call to the next."""

    def __init__(self) -> None:
        self.counter = RerankCounter()
        self._breaker, self._hedges = Breaker(), HedgeAllowance()

    async def result(self, call: RerankCall, send: Send) -> RerankResult:
        """Return the result of a call, and count it. Raises ClientError as the call's policy says."""
        if not call.candidates:
            result = RerankResult.kept(NO_CANDIDATES, 0, call.request_id)
        else:
            try:
                with self._breaker.call(call.policy, call.request_id):
                    result = RerankResult.of(await self._answer(call, send), call.candidates)
            except ClientError as error:
                self.counter.count(error.reason)
                return call.failed(error)
        self.counter.count(result.outcome)
        return result

    async def _answer(self, call: RerankCall, send: Send) -> RerankAnswer:
        """Return the first answer. The request is sent twice if the policy says so and the first takes long."""
        tasks = [asyncio.create_task(send(call.exchange()))]
        self._hedges.count_call()
        try:
            if call.policy.hedge_ms is not None:
                done, _ = await asyncio.wait(tasks, timeout=call.policy.hedge_ms / 1000)
                if not done and self._hedges.take():
                    self.counter.hedges += 1
                    tasks.append(asyncio.create_task(send(call.exchange())))
            for finished in asyncio.as_completed(tasks):
                try:
                    return await finished
                except ClientError as error:
                    failure = error
            raise failure
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
