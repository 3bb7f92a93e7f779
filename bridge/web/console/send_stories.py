"""What a form becomes: a report, an inquiry, a request or a response, tried out or sent, by the same story.

House rule: what is shown before it is sent comes from the very code that sends it (`Origin.is_rehearsal`).
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from bridge.errors import ConfigError, MalformedError, RefusedError
from bridge.iodef.model import Incident as Document
from bridge.pipeline import compose, originate
from bridge.pipeline.compose import Details, PrivateError
from bridge.pipeline.originate import Origin, Originated
from bridge.policy.record import Incident, Interaction, Outcome, Way
from bridge.policy.sessions import Role
from bridge.store import keys, load
from bridge.web.console import find, send_form
from bridge.web.console.guard import NOT_HERE, Refusal, Visit
from bridge.web.console.send_form import Reader, WrongError
from bridge.xep0268.model import Kind

NewId = Callable[[], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matter:
    """What a form is about.

    Attributes:
        host: who sends.
        incident: the stored incident, if it is about one; `asked`: the request that is answered.
    """

    kind: Kind
    host: str
    incident: Incident | None = None
    asked: Interaction | None = None

    @property
    def is_foreign(self) -> bool:
        """Whether another server reported the incident, so that it is told as that server tells it."""
        return self.incident is not None and not self.incident.is_own

    @property
    def asked_for(self) -> list[str]:
        """The actions that the request asks for, each once."""
        wanted = self.asked.document.expectations if self.asked else ()
        return list(dict.fromkeys(one.action for one in wanted))


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What was made of a form, and a sentence on each thing that was repaired in a document that was given."""

    originated: Originated
    notes: tuple[str, ...] = ()


async def matter(visit: Visit, kind: Kind, typed: Mapping[str, Any]) -> Matter:
    """Find what a form is about.

    Raises:
        Refusal: it is not here, or this person may not act for its host.
    """
    if kind is Kind.RESPONSE:
        asked = await _request(visit, typed["request"])
        return Matter(kind=kind, host=visit.acting(asked.host), asked=asked)
    if typed["incident"]:
        incident = await find.incident(visit.store, typed["incident"], visit.hosts)
        if incident is None:
            raise NOT_HERE
        return Matter(kind=kind, host=visit.acting(incident.host), incident=incident)
    mine = [name for name, role in visit.hosts.items() if role is Role.APPROVER]
    return Matter(kind=kind, host=visit.acting(typed["host"] or next(iter(mine), next(iter(visit.hosts)))))


async def _request(visit: Visit, interaction_id: str) -> Interaction:
    found = await find.records(visit.store, [keys.interaction(interaction_id)])
    if not found or not isinstance(found[0], Interaction) or found[0].host not in visit.hosts:
        raise NOT_HERE
    if found[0].kind is not Kind.REQUEST or found[0].way is not Way.RECEIVED:
        raise NOT_HERE
    return found[0]


async def made(
    visit: Visit, about: Matter, typed: Mapping[str, Any], new_id: NewId, *, is_rehearsal: bool
) -> Made:
    """Make of a form what it says.

    Raises:
        WrongError: something typed cannot be sent.
    """
    reader = Reader(typed)
    send_form.check_lengths(reader)
    story = _STORIES[about.kind]
    is_needed = about.kind is not Kind.RESPONSE and not (
        about.kind is Kind.REPORT and about.incident is not None and about.incident.is_own
    )
    to = send_form.recipients(reader, about.host, is_needed=is_needed)
    if about.kind is Kind.REPORT and about.incident is not None and not to:
        to = await originate.audience(visit.store, about.incident) if about.incident.is_own else to
        if not to:
            reader.blame("to", "nobody has it yet: choose at least one server")
    if about.asked is not None:
        to = (about.asked.peer,)
    origin = Origin(
        host=about.host, to=to, now=visit.now, new_id=new_id, actor=visit.actor, is_rehearsal=is_rehearsal
    )
    try:
        return await story(visit, about, reader, origin)
    except PrivateError as error:
        raise WrongError({"even_private": str(error)}) from None
    except ConfigError as error:
        raise WrongError({"to" if about.is_foreign else "": str(error)}) from None


async def _report(visit: Visit, about: Matter, reader: Reader, origin: Origin) -> Made:
    if about.incident is not None and about.is_foreign:
        reader.finish()
        newest = await _with_original(visit, about.incident.current.interaction_id)
        even_private = bool(reader.typed["even_private"])
        done = await originate.forward(visit.store, origin, about.incident, newest, even_private=even_private)
        return Made(originated=done)
    if reader.typed["document"]:
        given = await _given(about, reader)
        reading = given.reading
        done = await originate.report(visit.store, origin, reading.tree, status=reading.status)
        return Made(originated=done, notes=given.notes)
    document = await _document(visit, about, reader)
    return Made(originated=await originate.report(visit.store, origin, document))


async def _inquiry(visit: Visit, about: Matter, reader: Reader, origin: Origin) -> Made:
    identity = about.incident.identity if about.incident else send_form.identity(reader)
    reader.finish()
    return Made(originated=await originate.inquire(visit.store, origin, identity))


async def _asking(visit: Visit, about: Matter, reader: Reader, origin: Origin) -> Made:
    wanted = send_form.actions(reader, send_form.ACTIONS)
    if not wanted:
        reader.blame("actions", "say what they are to do")
    notes: tuple[str, ...] = ()
    if about.incident is not None and about.is_foreign:
        reader.finish()
        newest = await _with_original(visit, about.incident.current.interaction_id)
        even_private = bool(reader.typed["even_private"])
        document = compose.of_peer(about.incident, newest, origin.to, even_private=even_private)
    elif reader.typed["document"]:
        given = await _given(about, reader)
        document, notes = given.reading.incident, given.notes
    else:
        document = await _document(visit, about, reader)
    document = originate.expect(document, wanted, text=reader.typed["text"])
    done = await originate.request(visit.store, origin, document, about=about.incident)
    return Made(originated=done, notes=notes)


async def _answer(visit: Visit, about: Matter, reader: Reader, origin: Origin) -> Made:
    asked = about.asked
    if asked is None:
        raise NOT_HERE
    outcome = reader.choice("outcome", [str(one) for one in Outcome])
    if not outcome:
        reader.blame("outcome", "say what came of it")
    done = send_form.actions(reader, about.asked_for) if outcome == Outcome.PARTLY else ()
    if outcome == Outcome.PARTLY and not done:
        reader.blame("actions", "say what was done")
    if outcome == Outcome.DECLINED and not reader.typed["text"]:
        reader.blame("text", "say why: who asked is told")
    is_again = bool(reader.typed["again"])
    if asked.outcome is not None and not is_again and origin.is_rehearsal:
        reader.blame("again", f"it was answered before: {asked.outcome}")
    reader.finish()
    answered = await originate.respond(
        visit.store,
        origin,
        await _with_original(visit, asked.id),
        outcome=Outcome(outcome),
        text=reader.typed["text"],
        actions=done,
        again=is_again,
    )
    return Made(originated=answered)


_STORIES: Final = {
    Kind.REPORT: _report,
    Kind.INQUIRY: _inquiry,
    Kind.REQUEST: _asking,
    Kind.RESPONSE: _answer,
}


async def _document(visit: Visit, about: Matter, reader: Reader) -> Document:
    """What was typed field by field: a new incident, or more about one of ours."""
    details: Details = send_form.details(reader)
    if about.incident is None:
        if not details.description and not reader.typed["sources"]:
            reader.blame("description", "say what happened, or name who did it")
        reader.finish()
        return compose.new_document(about.host, details)
    reader.finish()
    return compose.again(await _with_original(visit, about.incident.current.interaction_id), details)


async def _given(about: Matter, reader: Reader) -> compose.Given:
    """A document that was pasted, read as if this host sent it."""
    if about.incident is not None:
        reader.blame("document", "the incident has its document; change it field by field")
    reader.finish()
    data = reader.typed["document"].encode()
    try:
        return await asyncio.to_thread(compose.from_document, data, about.host, about.kind)
    except MalformedError as error:
        where = f"{error.path}: " if error.path else ""
        raise WrongError({"document": f"{where}{error.rule}"}) from None
    except RefusedError as error:
        raise WrongError({"document": error.stanza_error.text}) from None


async def _with_original(visit: Visit, interaction_id: str) -> Interaction:
    name = keys.interaction(interaction_id)
    found = (await load.fetch(visit.store, names=[name], originals=True)).records[name]
    if not isinstance(found, Interaction) or found.original is None:
        raise Refusal(HTTPStatus.NOT_FOUND, "Gone", "Its document is no longer in the store.")
    return found
