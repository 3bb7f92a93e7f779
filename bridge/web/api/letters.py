"""`interactions/{id}/letter`: the text for the people who look after a server that does not speak XEP-0268.

House rule: whoever has the link to the answer page can answer, so only a token that may send is told it.
"""

from typing import Final, Self

from pydantic import Field

from bridge.pipeline import persons
from bridge.policy.consumers import Scope
from bridge.policy.letter import letter, subject
from bridge.policy.record import Interaction
from bridge.policy.standing import standing
from bridge.web.api.interactions import TAG, known_interaction
from bridge.web.api.model import Out
from bridge.web.api.router import Answer, Call, Route, not_found
from bridge.web.auth import has


class LetterView(Out):
    """What is written to a person in place of an interaction."""

    interaction_id: str
    incident_id: str
    to: str = Field(
        description="The address of that person, as the server announces it; empty: nobody announced was reached, and "
        "you may know one."
    )
    subject: str
    text: str = Field(
        description="Plain text; with a link to the answer page, if there is one, for tokens that may `write`."
    )
    standing: str = Field(description="How far it got, in words.")
    is_to_be_mailed: bool = Field(description="You can mail it there; false: it was sent.")

    @classmethod
    async def of(cls, call: Call, sent: Interaction) -> Self:
        """Show it, as this caller may see it."""
        mail = await persons.by_mail(call.store, sent)
        known = mail or sent.outreach
        if known is None:
            raise not_found("letter")
        service = call.service
        days = service.settings.policy.answer_page_days
        link = persons.links(service.settings.server.public_url, service.keys, days=days)
        return cls(
            interaction_id=sent.id,
            incident_id=sent.incident_id,
            to=known.address,
            subject=subject(sent),
            text=letter(sent, link=link(sent, call.now) if has(call.token, Scope.WRITE) else ""),
            standing=standing(sent),
            is_to_be_mailed=mail is not None,
        )


async def show_letter(call: Call) -> Answer:
    """The text."""
    return Answer(body=await LetterView.of(call, await known_interaction(call)))


async def note_letter(call: Call) -> Answer:
    """Note that it was mailed."""
    sent = await known_interaction(call)
    after = await persons.mailed(call.store, sent, actor=call.actor, now=call.now)
    return Answer(body=await LetterView.of(call, after))


ROUTES: Final = (
    Route(
        method="GET",
        path="/interactions/{id}/letter",
        scope=Scope.READ,
        handler=show_letter,
        summary="The text to mail about what a server could not take",
        description="404 where the server itself took it.",
        tag=TAG,
        answer=LetterView,
    ),
    Route(
        method="POST",
        path="/interactions/{id}/letter/sent",
        scope=Scope.WRITE,
        handler=note_letter,
        summary="Note that you mailed it",
        description="The bridge sends no mail. Noted again, nothing changes; 409 where nothing is to be mailed.",
        tag=TAG,
        answer=LetterView,
    ),
)
