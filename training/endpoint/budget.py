"""A limit on what requests may cost, which several requests at once do not exceed."""

import threading
from dataclasses import dataclass
from typing import Self

from relevance.storage.strict import StrictModel
from training.endpoint.errors import BudgetSpentError
from training.endpoint.options import EndpointOptions


class Cost(StrictModel):
    """What was spent: requests, tokens in and out, and money in the unit of the prices (0 where none are set).

    `charged_tokens` is what counts against a budget: tokens that the server reported, and for requests whose answer
    was lost the most that they can have used.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    charged_tokens: int = 0
    money: float = 0.0

    def __add__(self, other: Self) -> "Cost":
        """Return the sum, field by field."""
        return Cost(**{name: getattr(self, name) + getattr(other, name) for name in type(self).model_fields})

    def text(self) -> str:
        """Return the cost in words."""
        return f"{self.requests:,} requests, {self.charged_tokens:,} tokens, {self.money:g} of money"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request."""

    prompt_tokens: int
    completion_tokens: int


NOTHING = Usage(0, 0)


class Budget:
    """Counts what is spent; safe to use from several threads.

    A request first reserves the most that it can cost. If that exceeds the budget while other requests are running, it
    waits for them, since most cost less than they reserved. If none is running, the budget is spent.
    """

    def __init__(self, options: EndpointOptions) -> None:
        self._options = options
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
                "prompt_tokens": used.prompt_tokens if used else 0,
                "completion_tokens": used.completion_tokens if used else 0,
            }
        )
        with self._changed:
            self._reserved.remove(reserved)
            self.cost += cost
            self._changed.notify_all()

    def _cost_of(self, usage: Usage) -> Cost:
        of = self._options
        money = usage.prompt_tokens * of.price_per_million_prompt
        money += usage.completion_tokens * of.price_per_million_completion
        tokens = usage.prompt_tokens + usage.completion_tokens
        return Cost(requests=1, charged_tokens=tokens, money=money / 1e6)

    def _fits(self, most: Usage) -> bool:
        total, of = sum(map(self._cost_of, [*self._reserved, most]), self.cost), self._options
        limits = (
            (total.requests, of.budget_requests),
            (total.charged_tokens, of.budget_tokens),
            (total.money, of.budget_money),
        )
        return all(limit is None or spent <= limit for spent, limit in limits)

    def _spent(self) -> str:
        of, cost = self._options, self.cost
        requests = None if of.budget_requests is None else f"{of.budget_requests:,} requests"
        tokens = None if of.budget_tokens is None else f"{of.budget_tokens:,} tokens"
        money = None if of.budget_money is None else f"{of.budget_money:g} of money"
        named = " and ".join(filter(None, (requests, tokens, money)))
        return (
            f"the budget of {named} is spent: {cost.charged_tokens:,} tokens, {cost.money:g} of money in "
            f"{cost.requests} requests"
        )
