"""The text for the people who look after a server that does not speak XEP-0268, to be mailed by the operator."""

from urllib.parse import quote

from aiohttp import web

from bridge.pipeline import persons
from bridge.policy.letter import letter, subject
from bridge.policy.record import Interaction
from bridge.policy.sessions import Role
from bridge.policy.standing import standing
from bridge.store import keys, load
from bridge.web.console.guard import NOT_HERE, Visit, get, post


async def show(visit: Visit) -> web.Response:
    """Show the text, ready to be copied or handed to a mail program."""
    sent = await _meant(visit)
    mail = await persons.by_mail(visit.store, sent)
    known = mail or sent.outreach
    if known is None:
        raise NOT_HERE
    settings = visit.service.settings
    link = persons.links(
        settings.server.public_url, visit.service.keys, days=settings.policy.answer_page_days
    )
    may_act = visit.hosts[sent.host] is Role.APPROVER  # whoever has the link can answer
    text = letter(sent, link=link(sent, visit.now) if may_act else "")
    return visit.page(
        "letter.html",
        title=f"To the operators of {sent.peer}",
        sent=sent,
        to=known,
        standing=standing(sent),
        subject=subject(sent),
        text=text,
        mailto=f"mailto:{quote(known.address, safe='@')}?subject={quote(subject(sent))}&body={quote(text)}",
        can_note=mail is not None,
    )


async def note(visit: Visit) -> web.Response:
    """Note that the operator mailed it."""
    sent = await _meant(visit)
    visit.acting(sent.host)
    await persons.mailed(visit.store, sent, actor=visit.actor, now=visit.now)
    return visit.back(f"/incidents/{sent.incident_id}", "mailed")


async def _meant(visit: Visit) -> Interaction:
    name = keys.interaction(visit.request.match_info["id"][:200])
    found = (await load.fetch(visit.store, names=[name])).records[name]
    if not isinstance(found, Interaction):
        raise NOT_HERE
    visit.host(found.host)
    return found


def routes() -> list[web.RouteDef]:
    """Return the routes of these texts."""
    return [get("/letters/{id}", show), post("/letters/{id}", note)]
