"""`due`: what is next with those who were told of something and did not answer; nothing of it happens by itself."""

from datetime import datetime
from typing import Final, Self

from pydantic import Field

from bridge.pipeline.due import due
from bridge.policy.clock import NextStep, Step
from bridge.policy.consumers import Scope
from bridge.web.api.model import Domain, Out, Query
from bridge.web.api.router import Answer, Call, Route

TAG: Final = "due"


class DueQuery(Query):
    """Which steps."""

    host: Domain | None = Field(default=None, description="Only about what this host reported.")
    all: bool = Field(default=False, description="Also what is due later.")


class StepView(Out):
    """What may be done next with one server."""

    incident_id: str
    host: str
    peer: str
    step: Step = Field(
        description="`remind`: tell them once more; `list`: block that server, and propose it where that is allowed."
    )
    at: datetime = Field(description="When it is due.")
    times: int = Field(description="On how many days they were told; 0: nothing arrived.")
    action: str = Field(description="What was asked for last; empty: they were only told.")
    way: str = Field(description="By which way they would be reminded if the server itself does not take it.")
    may_be_published: bool = Field(
        description="Whether the log may go to a public list: the users whose reports it is made of agreed, if it is."
    )
    command: str = Field(description="What to type.")
    log_command: str = Field(description="What to type for the log that a public list wants; empty: nothing.")

    @classmethod
    def of(cls, step: NextStep) -> Self:
        """Show it."""
        return cls(**{name: getattr(step, name) for name in cls.model_fields})


class DueView(Out):
    """The steps, that which is due first first."""

    items: tuple[StepView, ...]


async def list_due(call: Call) -> Answer:
    """What is due now, or later too."""
    query: DueQuery = call.query
    found = await due(call.store, call.hosts_for(query.host), rules=call.service.settings.policy)
    items = tuple(StepView.of(one) for one in found if query.all or one.at <= call.now)
    return Answer(body=DueView(items=items))


ROUTES: Final = (
    Route(
        method="GET",
        path="/due",
        scope=Scope.READ,
        handler=list_due,
        summary="What is next with those who were told and did not answer",
        description="Over the newest incidents that our hosts reported; an answer, the resolution or closing the "
        "incident ends it.",
        tag=TAG,
        query=DueQuery,
        answer=DueView,
    ),
)
