"""A cap on what requests may cost, held even while several are under way."""

import threading
from dataclasses import dataclass

from training.translation.protocol import BudgetSpentError, Cost


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total(self) -> int:
        """Tokens in and out."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Prices:
    """Money per million tokens, in and out."""

    prompt: float = 0.0
    completion: float = 0.0

    def money(self, usage: Usage) -> float:
        """Return what a request of this usage costs."""
        return (usage.prompt_tokens * self.prompt + usage.completion_tokens * self.completion) / 1e6


class Budget:
    """Counts what is spent; safe to use from several threads.

    A request first reserves the most that it can cost. Where that does not fit while others are under way, it waits for
    them, since they mostly cost less than they reserved; where it does not fit and none is, the budget is spent.
    """

    def __init__(self, prices: Prices, most_tokens: int | None = None, most_money: float | None = None) -> None:
        self._prices, self._most_tokens, self._most_money = prices, most_tokens, most_money
        self._cost = Cost()
        self._reserved: list[Usage] = []
        self._changed = threading.Condition()

    @property
    def cost(self) -> Cost:
        """What was spent so far."""
        return self._cost

    def reserve(self, most: Usage) -> None:
        """Wait until a request of at most this usage fits. Raises BudgetSpentError where it cannot."""
        with self._changed:
            while not self._fits(most):
                if not self._reserved:
                    raise BudgetSpentError(f"the budget of {self._named()} is spent: {self._spent()}")
                self._changed.wait()
            self._reserved.append(most)

    def settle(self, reserved: Usage, used: Usage | None) -> None:
        """Put what a request used in the place of what it reserved; None: it was never worked on and costs nothing."""
        used = used or Usage(0, 0)
        cost = Cost(prompt_tokens=used.prompt_tokens, completion_tokens=used.completion_tokens)
        self._settle(reserved, used, cost)

    def lose(self, reserved: Usage) -> None:
        """Charge all that a request reserved: its answer was lost and may have been worked on."""
        self._settle(reserved, reserved, Cost())

    def _settle(self, reserved: Usage, charged: Usage, cost: Cost) -> None:
        with self._changed:
            self._reserved.remove(reserved)
            charge = Cost(requests=1, charged_tokens=charged.total, money=self._prices.money(charged))
            self._cost += cost + charge
            self._changed.notify_all()

    def _fits(self, most: Usage) -> bool:
        pending = [*self._reserved, most]
        tokens = self._cost.charged_tokens + sum(usage.total for usage in pending)
        money = self._cost.money + sum(map(self._prices.money, pending))
        within_tokens = self._most_tokens is None or tokens <= self._most_tokens
        return within_tokens and (self._most_money is None or money <= self._most_money)

    def _named(self) -> str:
        tokens = None if self._most_tokens is None else f"{self._most_tokens:,} tokens"
        money = None if self._most_money is None else f"{self._most_money:g} of money"
        return " and ".join(filter(None, (tokens, money)))

    def _spent(self) -> str:
        return f"{self._cost.charged_tokens:,} tokens, {self._cost.money:g} of money in {self._cost.requests} requests"
