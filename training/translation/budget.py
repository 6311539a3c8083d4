"""A limit on what requests may cost, which several requests at once do not exceed."""

import threading
from dataclasses import dataclass

from training.translation.translator import BudgetSpentError, Cost


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request."""

    prompt_tokens: int
    completion_tokens: int


NOTHING = Usage(0, 0)


@dataclass(frozen=True, slots=True)
class Prices:
    """Money per million tokens, in and out."""

    prompt: float = 0.0
    completion: float = 0.0


class Budget:
    """Counts what is spent; safe to use from several threads.

    A request first reserves the most that it can cost. If that exceeds the budget while other requests are running, it
    waits for them, since most cost less than they reserved. If none is running, the budget is spent.
    """

    def __init__(self, prices: Prices, most_tokens: int | None = None, most_money: float | None = None) -> None:
        self._prices, self._most_tokens, self._most_money = prices, most_tokens, most_money
        self._reserved: list[Usage] = []
        self._changed = threading.Condition()
        self.cost = Cost()

    def reserve(self, most: Usage) -> None:
        """Wait until a request of at most this usage fits. Raises BudgetSpentError where it cannot."""
        with self._changed:
            self._changed.wait_for(lambda: self._fits(most) or not self._reserved)
            if not self._fits(most):
                raise BudgetSpentError(self._spent())
            self._reserved.append(most)

    def settle(self, reserved: Usage, used: Usage | None) -> None:
        """Replace a reservation by what the request used. None: the answer was lost, and all of it is charged."""
        charged = used or reserved
        cost = self._cost_of(charged).model_copy(
            update={
                "requests": 1,
                "prompt_tokens": used.prompt_tokens if used else 0,
                "completion_tokens": used.completion_tokens if used else 0,
            }
        )
        with self._changed:
            self._reserved.remove(reserved)
            self.cost += cost
            self._changed.notify_all()

    def _cost_of(self, usage: Usage) -> Cost:
        money = usage.prompt_tokens * self._prices.prompt + usage.completion_tokens * self._prices.completion
        return Cost(charged_tokens=usage.prompt_tokens + usage.completion_tokens, money=money / 1e6)

    def _fits(self, most: Usage) -> bool:
        total = sum(map(self._cost_of, [*self._reserved, most]), self.cost)
        within_tokens = self._most_tokens is None or total.charged_tokens <= self._most_tokens
        return within_tokens and (self._most_money is None or total.money <= self._most_money)

    def _spent(self) -> str:
        tokens = None if self._most_tokens is None else f"{self._most_tokens:,} tokens"
        money = None if self._most_money is None else f"{self._most_money:g} of money"
        named = " and ".join(filter(None, (tokens, money)))
        cost = self.cost
        return (
            f"the budget of {named} is spent: {cost.charged_tokens:,} tokens, {cost.money:g} of money in "
            f"{cost.requests} requests"
        )
