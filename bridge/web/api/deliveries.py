"""`deliveries`: what became of each event for each endpoint, attempt by attempt.

House rule: a delivery belongs to the host whose event it delivers; who may not see that host does not see it.
"""

from datetime import datetime
from typing import Final, Self

from pydantic import Field

from bridge.pipeline import redeliver
from bridge.policy.consumers import Attempt, Delivery, DeliveryState, Scope, Token
from bridge.store import keys, load
from bridge.web.api.model import Out
from bridge.web.api.router import Answer, Call, Route, not_found

TAG: Final = "deliveries"


class DeliveryItem(Out):
    """A delivery in a list."""

    id: str
    endpoint_id: str
    host: str
    event_id: str = Field(description="What was sent as `webhook-id`.")
    event_type: str
    sequence: int
    created_at: datetime = Field(description="When it was first tried.")
    state: DeliveryState = Field(description="`pending`: tried again at `next_at`; `dead`: given up.")
    tries: int = Field(description="Attempts since it was last queued; they say when the next one is.")
    next_at: datetime | None
    last: Attempt | None = Field(description="The last attempt.")

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        """Show it."""
        names = set(DeliveryItem.model_fields) - {"last"}
        last = delivery.attempts[-1] if delivery.attempts else None
        return cls(**{name: getattr(delivery, name) for name in names}, last=last)


class DeliveryPage(Out):
    """A page of deliveries, the newest first."""

    items: tuple[DeliveryItem, ...]
    next: str | None = Field(description="The cursor of the next page; null: this is the last.")


class DeliveryView(DeliveryItem):
    """A delivery with its attempts."""

    attempts: tuple[Attempt, ...] = Field(
        description="Oldest first, at most 30. `status` null: there was no answer, and `error` says why. `answer` is "
        "the first KiB of what the endpoint answered; hostile text."
    )

    @classmethod
    def whole(cls, delivery: Delivery) -> Self:
        """Show all of it."""
        item = DeliveryItem.of(delivery)
        return cls(
            **{name: getattr(item, name) for name in DeliveryItem.model_fields}, attempts=delivery.attempts
        )


def may(token: Token, host: str) -> bool:
    """Whether a token is good for a host, also for one that is no longer configured."""
    return not token.hosts or host in token.hosts


async def known_delivery(call: Call) -> Delivery:
    """Load the delivery that the path names; 404 where the caller may not see it."""
    name = keys.delivery(call.path["id"])
    found = (await load.fetch(call.store, names=[name])).records[name]
    if not isinstance(found, Delivery) or not may(call.token, found.host):
        raise not_found("delivery")
    return found


async def show_delivery(call: Call) -> Answer:
    """One delivery with its attempts."""
    return Answer(body=DeliveryView.whole(await known_delivery(call)))


async def redeliver_one(call: Call) -> Answer:
    """Deliver once more."""
    known = await known_delivery(call)
    after = await redeliver.redeliver(call.store, known, actor=call.actor, now=call.now)
    return Answer(body=DeliveryView.whole(after))


ROUTES: Final = (
    Route(
        method="GET",
        path="/deliveries/{id}",
        scope=Scope.READ,
        handler=show_delivery,
        summary="One delivery with its attempts",
        tag=TAG,
        answer=DeliveryView,
    ),
    Route(
        method="POST",
        path="/deliveries/{id}/redeliver",
        scope=Scope.WRITE,
        handler=redeliver_one,
        summary="Deliver an event to its endpoint once more",
        description="Whatever came of it before, under the same `webhook-id`, from the first of all tries on.",
        tag=TAG,
        answer=DeliveryView,
        status=202,
    ),
)
