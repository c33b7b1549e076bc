"""What runs may use: reserved before each generation, settled after it, shared with delegates.

An account belongs to a run and covers it with all its delegates. What a run uses counts in its own
account and in those of the runs above it, so that delegates that work side by side share what is
left.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import anyio

from perstack.core.events import BudgetNotice, Limit, Limits
from perstack.core.messages import Usage
from perstack.definition.budget import Budget
from perstack.runtime.ports import Clock

NOTICE_SHARE = 0.8
"""From this part of a limit on, the expert is told."""

NOTHING_USED = (Usage(), 0)
LAST_REPLY = 1.0
"""The share with which the notice about the last reply is recorded."""

_LAST_NOTICE = (
    "Budget: this is the last reply that {what} of this task allow. Finish now with what you have, "
    "and say what is missing."
)
_RENEWED = (
    "Budget: this task may use more now. What was said before about what is used up does not hold "
    "any more, so go on."
)
_NOTICE = (
    "Budget: {share:.0%} of {what} of this task are used up. Finish soon, and leave out what is "
    "not needed."
)


@dataclass(frozen=True, slots=True)
class Shortage:
    """A limit that does not allow what comes next.

    Attributes:
        limit: Which one.
        run_id: Whose account it belongs to.
        message: What is used up.
    """

    limit: Limit
    run_id: str
    message: str


class RunBudget(Protocol):
    """What a run needs of its budget."""

    @property
    def limits(self) -> Limits | None:
        """The limits of the run's own account, to be recorded; `None` without any."""
        ...

    @property
    def is_limited(self) -> bool:
        """Whether generations need reservations."""
        ...

    @property
    def needs_prices(self) -> bool:
        """Whether there is a limit in US dollars."""
        ...

    async def reserve(
        self, estimate: Usage, before_waiting: Callable[[], Awaitable[None]]
    ) -> Shortage | None:
        """Set aside what a generation will use; returns what does not allow that.

        Waits while only reservations of other runs are in the way.
        """
        ...

    def settle(self, estimate: Usage | None, usage: Usage) -> None:
        """Count what a generation has used, in place of what was reserved for it."""
        ...

    def count_step(self) -> None:
        """Count a step of the run."""
        ...

    def step_shortage(self) -> Shortage | None:
        """What does not allow one more step."""
        ...

    def notice(
        self,
        estimate: Usage,
        job_steps: tuple[int, int],
        noticed: float,
        *,
        is_renewed: bool,
    ) -> BudgetNotice | None:
        """What the expert should be told, if it was told of no larger share than `noticed`.

        Args:
            estimate: What the next generation will use.
            job_steps: The steps that the job has used, with the next one, and those it may use.
            noticed: The share of the newest notice.
            is_renewed: Whether older notices do not hold any more.
        """
        ...

    async def expire(self) -> None:
        """Return when the time of the run's own account is over."""
        ...

    def time_shortage(self) -> Shortage | None:
        """The account whose time is over, if there is one."""
        ...

    def open_account(
        self,
        run_id: str,
        limits: Limits | None,
        *,
        used: tuple[Usage, int] = NOTHING_USED,
        used_before: tuple[Usage, int] = NOTHING_USED,
    ) -> "RunBudget":
        """The budget of a run below the present one.

        Args:
            run_id: The run.
            limits: What it and its delegates may use.
            used: What they have used in all, and how many steps, if it is resumed.
            used_before: The part of that that they had used before they got these limits.
        """
        ...


def limits_from(budget: Budget, used_before: tuple[Usage, int] = NOTHING_USED) -> Limits | None:
    """The limits of a run that has used something, and steps, before it got this budget."""
    used, steps = used_before
    limits = Limits(
        steps=None if budget.max_steps is None else budget.max_steps + steps,
        tokens=None if budget.max_tokens is None else budget.max_tokens + used.total_tokens,
        cost_usd=None
        if budget.max_cost_usd is None
        else budget.max_cost_usd + (used.cost_usd or 0.0),
        seconds=budget.max_seconds,
    )
    return None if limits == Limits() else limits


@dataclass(slots=True, kw_only=True)
class Account:
    """Sums of a run and its delegates, beside their limits.

    Attributes:
        run_id: Whose account it is.
        limits: Absolute, but for the seconds, which count from `started_ms`.
        used: In all, what was used before included; of the dollars, what is known.
        initial: What was used before there were these limits, and how many steps.
        reserved: What the generations that are under way will use.
        settled: Set, and replaced, when a reservation ends.
    """

    run_id: str
    limits: Limits
    used: Usage
    steps: int
    initial: tuple[Usage, int]
    started_ms: int
    reserved: list[Usage] = field(default_factory=list[Usage])
    settled: anyio.Event = field(default_factory=anyio.Event)
    is_out_of_time: bool = False

    def shortage(self, estimate: Usage) -> Shortage | None:
        """What does not allow a generation beside those that are under way."""
        planned = sum(self.reserved, self.used) + estimate
        tokens, cost = self.limits.tokens, self.limits.cost_usd
        if tokens is not None and planned.total_tokens > tokens:
            before = self.initial[0].total_tokens
            budget, used = tokens - before, self.used.total_tokens - before
            state = "is used up" if used else "is too small"
            message = (
                f"The budget of {budget:,} tokens {state}: {used:,} are used, and the next reply "
                f"needs about {estimate.total_tokens:,}."
            )
            return Shortage("tokens", self.run_id, message)
        if cost is not None and (planned.cost_usd or 0.0) > cost:
            paid = self.initial[0].cost_usd or 0.0
            budget, spent = cost - paid, (self.used.cost_usd or 0.0) - paid
            state = "is used up" if spent else "is too small"
            message = (
                f"The budget of ${budget:,.4f} {state}: ${spent:,.4f} are spent, and the next "
                f"reply costs about ${estimate.cost_usd or 0.0:,.4f}."
            )
            return Shortage("costUsd", self.run_id, message)
        return None

    def step_shortage(self) -> Shortage | None:
        limit = self.limits.steps
        if limit is None or self.steps < limit:
            return None
        message = f"The budget of {limit - self.initial[1]:,} steps is used up."
        return Shortage("steps", self.run_id, message)

    def time_shortage(self) -> Shortage | None:
        if not self.is_out_of_time:
            return None
        message = f"The budget of {self.limits.seconds:g} seconds is used up."
        return Shortage("seconds", self.run_id, message)

    def shares(self, now_ms: int) -> Iterator[tuple[float, str]]:
        """The used part of each limit, with a name for it."""
        limits, (used, steps) = self.limits, self.initial
        if limits.tokens is not None:
            total = used.total_tokens
            yield _share(self.used.total_tokens - total, limits.tokens - total), "the tokens"
        if limits.cost_usd is not None:
            paid = used.cost_usd or 0.0
            spent = (self.used.cost_usd or 0.0) - paid
            yield _share(spent, limits.cost_usd - paid), "the US dollars"
        if limits.steps is not None:
            yield _share(self.steps - steps, limits.steps - steps), "the steps"
        if limits.seconds is not None:
            yield _share((now_ms - self.started_ms) / 1000, limits.seconds), "the seconds"

    def last_reply_limit(self, estimate: Usage) -> str | None:
        """What allows one more generation and no second one."""
        if self.limits.steps is not None and self.steps + 1 >= self.limits.steps:
            return "the steps"
        shortage = self.shortage(estimate + estimate)
        if shortage is None or self.shortage(estimate) is not None:
            return None
        return "the tokens" if shortage.limit == "tokens" else "the US dollars"


def _share(used: float, limit: float) -> float:
    return used / limit if limit > 0 else LAST_REPLY


class BudgetAccounts:
    """Satisfies `RunBudget` with sums in memory.

    Args:
        accounts: The run's own, then those of the runs above it.
        clock: Measures the seconds.
    """

    def __init__(self, accounts: tuple[Account, ...], clock: Clock) -> None:
        self._accounts = accounts
        self._clock = clock

    @property
    def limits(self) -> Limits | None:
        limits = self._accounts[0].limits if self._accounts else Limits()
        return None if limits == Limits() else limits

    @property
    def is_limited(self) -> bool:
        return any(account.limits != Limits() for account in self._accounts)

    @property
    def needs_prices(self) -> bool:
        return any(account.limits.cost_usd is not None for account in self._accounts)

    async def reserve(
        self, estimate: Usage, before_waiting: Callable[[], Awaitable[None]]
    ) -> Shortage | None:
        while True:
            blocked = [
                (account, shortage)
                for account in self._accounts
                if (shortage := account.shortage(estimate)) is not None
            ]
            if not blocked:
                for account in self._accounts:
                    account.reserved.append(estimate)
                return None
            account, shortage = blocked[-1]
            if not account.reserved:
                return shortage
            settled = account.settled
            await before_waiting()
            await settled.wait()

    def settle(self, estimate: Usage | None, usage: Usage) -> None:
        for account in self._accounts:
            account.used += usage
            if estimate is not None:
                account.reserved.remove(estimate)
            account.settled.set()
            account.settled = anyio.Event()

    def count_step(self) -> None:
        for account in self._accounts:
            account.steps += 1

    def step_shortage(self) -> Shortage | None:
        shortages = [account.step_shortage() for account in self._accounts]
        return next((each for each in reversed(shortages) if each is not None), None)

    def notice(
        self,
        estimate: Usage,
        job_steps: tuple[int, int],
        noticed: float,
        *,
        is_renewed: bool,
    ) -> BudgetNotice | None:
        notice = self._new_notice(estimate, job_steps, noticed)
        if not is_renewed:
            return notice
        if notice is None:
            return BudgetNotice(share=noticed, text=_RENEWED)
        return notice.model_copy(update={"text": f"{_RENEWED}\n{notice.text}"})

    def _new_notice(
        self, estimate: Usage, job_steps: tuple[int, int], noticed: float
    ) -> BudgetNotice | None:
        if noticed >= LAST_REPLY:
            return None
        number, limit = job_steps
        last = [each for account in self._accounts if (each := account.last_reply_limit(estimate))]
        if number >= limit:
            last.append("the steps")
        if last:
            return BudgetNotice(share=LAST_REPLY, text=_LAST_NOTICE.format(what=last[-1]))
        now_ms = self._clock.now_ms()
        share, what = max(
            [(_share(number - 1, limit), "the steps")]
            + [each for account in self._accounts for each in account.shares(now_ms)]
        )
        if noticed >= NOTICE_SHARE or share < NOTICE_SHARE:
            return None
        return BudgetNotice(
            share=NOTICE_SHARE, text=_NOTICE.format(share=min(share, 0.99), what=what)
        )

    async def expire(self) -> None:
        account = self._accounts[0]
        if account.limits.seconds is None:
            await anyio.sleep_forever()
            return
        await self._clock.sleep(account.limits.seconds)
        account.is_out_of_time = True

    def time_shortage(self) -> Shortage | None:
        shortages = [account.time_shortage() for account in self._accounts]
        return next((each for each in reversed(shortages) if each is not None), None)

    def open_account(
        self,
        run_id: str,
        limits: Limits | None,
        *,
        used: tuple[Usage, int] = NOTHING_USED,
        used_before: tuple[Usage, int] = NOTHING_USED,
    ) -> "BudgetAccounts":
        usage, steps = used
        account = Account(
            run_id=run_id,
            limits=limits or Limits(),
            used=usage.model_copy(update={"cost_usd": usage.cost_usd or 0.0}),
            steps=steps,
            initial=used_before,
            started_ms=self._clock.now_ms(),
        )
        return BudgetAccounts((account, *self._accounts), self._clock)
