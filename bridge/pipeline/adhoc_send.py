"""Ad-hoc commands by which an admin sends: reports, inquiries, requests, responses.

House rules: what may go to whom is decided by `pipeline/originate`, as for the command line; a command that is
submitted twice sends once, because its ids are made from its session.
"""

from collections.abc import Sequence
from typing import Final

from bridge.errors import ConfigError, MalformedError
from bridge.iodef.model import Incident as Document
from bridge.iodef.model import IncidentId, Restriction, Severity, Source
from bridge.iodef.table import CLASSES, EXT_VALUE, tag
from bridge.pipeline import compose, originate
from bridge.pipeline.compose import IMPACTS, Details
from bridge.pipeline.desk import Desk, watched
from bridge.pipeline.originate import Origin, Originated
from bridge.policy import forms, pages
from bridge.policy.decisions import Approval
from bridge.policy.forms import Field, FieldKind, Form, Reply
from bridge.policy.record import Interaction, InteractionState, Outcome, Way, derived_id
from bridge.store import keys
from bridge.xep0268.model import Kind
from bridge.xmpp.jid import prep_domain

ACTIONS: Final = sorted(
    (CLASSES[tag("Expectation")].attributes["action"].values or frozenset()) - {EXT_VALUE, "nothing"}
)
_RESTRICTIONS: Final = [str(one) for one in Restriction if one is not Restriction.DEFAULT]
_SEVERITIES: Final = [str(one) for one in Severity]
_OUTCOMES: Final = {
    "done": "All of it is done",
    "partly": "Only what is ticked below is done",
    "declined": "Nothing is done",
}
_MOST_PEERS: Final = 100
_MOST_LISTED: Final = 30
_OPEN: Final = {InteractionState.QUEUED, InteractionState.SENT}


async def ask_report(desk: Desk) -> Reply:
    """Ask what to report."""
    desk.may_act()
    fields = (_to(desk, is_required=False), *_about(desk), *_details(desk))
    instructions = (
        "Say what happened, or name an incident that is here to tell more about it or pass it on.",
    )
    return _form(f"{desk.host} reports an incident", instructions, fields)


async def ask_inquiry(desk: Desk) -> Reply:
    """Ask whom to ask about what."""
    desk.may_act()
    fields = (
        _to(desk),
        *_about(desk),
        forms.line("identity", "Or its identifier, such as jabber.org/4BF5D2CE", desk.given),
    )
    return _form(f"{desk.host} asks about an incident", (), fields)


async def ask_request(desk: Desk) -> Reply:
    """Ask what is to be done."""
    desk.may_act()
    actions = Field(
        var="actions",
        kind=FieldKind.LIST_MULTI,
        label="What they are to do",
        values=desk.given.get("actions", ()),
        options=tuple(forms.words(ACTIONS)),
        is_required=True,
    )
    text = forms.lines("text", "More about that, for people", desk.given)
    fields = (_to(desk), actions, text, *_about(desk), *_details(desk))
    return _form(f"{desk.host} asks for help", (), fields)


async def ask_response(desk: Desk) -> Reply:
    """List requests without an answer, or ask for the answer to the one chosen."""
    desk.may_act()
    asked = await _asked(desk)
    if asked is not None:
        return _outcome(desk, asked)
    index = keys.approvals_open(desk.host)
    ids, more = await desk.listed(index, "request", is_oldest_first=True)
    found = await desk.records(Approval, [keys.approval(one) for one in ids])
    options = [*((pages.approval_line(one), one.id) for one in found), *more]
    given = {} if desk.is_paging("request") else desk.given
    fields = (
        forms.choice("request", "Request", options, given),
        forms.line("incident", "Or the id of its incident", given),
    )
    note = "" if found else "No request of a server that you trust waits."
    instructions = tuple(text for text in (note, "Choose the request to answer by hand.") if text)
    return Reply(
        form=Form(title="Answer a request", instructions=instructions, fields=fields), actions=("next",)
    )


def _form(title: str, instructions: tuple[str, ...], fields: Sequence[Field]) -> Reply:
    return Reply(
        form=Form(title=title, instructions=instructions, fields=tuple(fields)), actions=("complete",)
    )


def _to(desk: Desk, *, is_required: bool = True) -> Field:
    return forms.lines("to", "To which servers, one a line", desk.given, is_required=is_required)


def _about(desk: Desk) -> tuple[Field, ...]:
    return (forms.line("incident", "Id of an incident that is here, or its beginning", desk.given),)


def _details(desk: Desk) -> tuple[Field, ...]:
    given = desk.given
    private = ("1",) if forms.is_set(given, "even_private") else ("0",)
    return (
        forms.lines("description", "What happened", given),
        forms.lines("sources", "Who did it: JIDs, one a line; JID=120 for 120 presence stanzas", given),
        forms.lines("targets", "Against whom: JIDs, one a line", given),
        forms.choice("impact", "Impact", forms.words(IMPACTS), given),
        forms.choice("severity", "Severity", forms.words(_SEVERITIES), given),
        forms.choice(
            "restriction", "Who may learn of it (else need-to-know)", forms.words(_RESTRICTIONS), given
        ),
        forms.lines("evidence", "Evidence, such as lines of a log", given),
        Field(
            var="even_private",
            kind=FieldKind.BOOLEAN,
            label="Pass it on although its reporter says that it is private",
            values=private,
        ),
    )


def _read_details(desk: Desk) -> Details:
    given = desk.given
    severity = forms.one_of(given, "severity", _SEVERITIES, "Severity")
    restriction = forms.one_of(given, "restriction", _RESTRICTIONS, "Who may learn of it")
    shown = forms.text(given, "evidence")
    return Details(
        text=derived_id("adhoc", desk.host, desk.session),
        description=forms.text(given, "description") or None,
        sources=tuple(_source(one) for one in forms.several(given, "sources")),
        targets=tuple(_address(one, "target") for one in forms.several(given, "targets")),
        impact=forms.one_of(given, "impact", IMPACTS, "Impact") or None,
        severity=Severity(severity) if severity else None,
        restriction=Restriction(restriction) if restriction else None,
        evidence=(compose.evidence(shown),) if shown else (),
    )


def _source(text: str) -> Source:
    address, equals, number = text.rpartition("=")
    if not (equals and number.isascii() and number.isdecimal()):
        return _address(text, "source")
    return _address(address, "source", number=int(number[:15]))


def _address(text: str, system: str, *, number: int | None = None) -> Source:
    try:
        return compose.address(text, system=system, count=number)
    except MalformedError as error:
        raise ConfigError(f"{text} is not a JID or an IP address: {error.rule}") from None


def _origin(desk: Desk, to: Sequence[str]) -> Origin:
    return Origin(host=desk.host, to=tuple(to), now=desk.now, new_id=desk.ids(), actor=desk.actor)


def _peers(desk: Desk) -> tuple[str, ...]:
    """The servers named."""
    found: list[str] = []
    for text in forms.several(desk.given, "to"):
        try:
            domain = prep_domain(text)
        except MalformedError as error:
            raise ConfigError(f"{text} is not a server's domain: {error.rule}") from None
        if domain == desk.host:
            raise ConfigError(f"{text} is this host itself")
        found.append(domain)
    if len(found) > _MOST_PEERS:
        raise ConfigError(f"these are {len(found)} servers; at most {_MOST_PEERS}")
    return tuple(dict.fromkeys(found))


def _some_peers(desk: Desk) -> tuple[str, ...]:
    peers = _peers(desk)
    if not peers:
        raise ConfigError("name at least one server to send it to")
    return peers


def _new(desk: Desk, details: Details) -> Document:
    if not (details.description or details.sources):
        raise ConfigError("say what happened, or who did it")
    return compose.new_document(desk.host, details)


def _is_described(details: Details) -> bool:
    return details != Details(text=details.text)


async def report(desk: Desk) -> Reply:
    """Report."""
    desk.may_act()
    details, typed = _read_details(desk), desk.first("incident")
    if not typed:
        document = _new(desk, details)
        return await _sent(
            desk, await originate.report(desk.store, _origin(desk, _some_peers(desk)), document)
        )
    incident = await desk.incident(typed)
    newest = await desk.with_original(incident.current.interaction_id)
    if incident.is_own:
        to = _peers(desk) or await originate.audience(desk.store, incident)
        if not to:
            raise ConfigError("name at least one server to send it to")
        document = compose.again(newest, details)
        return await _sent(desk, await originate.report(desk.store, _origin(desk, to), document))
    if _is_described(details):
        raise ConfigError(f"what {incident.reporter} reported is passed on as it is; leave the rest empty")
    origin = _origin(desk, _some_peers(desk))
    even_private = forms.is_set(desk.given, "even_private")
    return await _sent(
        desk, await originate.forward(desk.store, origin, incident, newest, even_private=even_private)
    )


async def inquire(desk: Desk) -> Reply:
    """Ask."""
    desk.may_act()
    to, typed = _some_peers(desk), desk.first("incident")
    if typed:
        identity = (await desk.incident(typed)).identity
    else:
        name, slash, text = desk.first("identity").partition("/")
        if not (slash and name.strip() and text.strip()):
            raise ConfigError("name an incident, or an identifier such as jabber.org/4BF5D2CE")
        identity = IncidentId(name=name.strip(), text=text.strip())
    return await _sent(desk, await originate.inquire(desk.store, _origin(desk, to), identity))


async def request(desk: Desk) -> Reply:
    """Ask for something to be done."""
    desk.may_act()
    to, details, typed = _some_peers(desk), _read_details(desk), desk.first("incident")
    actions = [one for one in forms.several(desk.given, "actions") if one in ACTIONS]
    if not actions:
        raise ConfigError("say what they are to do")
    text = forms.text(desk.given, "text")
    origin = _origin(desk, to)
    if not typed:
        document = originate.expect(_new(desk, details), actions, text=text)
        return await _sent(desk, await originate.request(desk.store, origin, document))
    incident = await desk.incident(typed)
    newest = await desk.with_original(incident.current.interaction_id)
    if incident.is_own:
        told = compose.again(newest, details)
    elif _is_described(details):
        raise ConfigError(f"the incident is told as {incident.reporter} reported it; leave the rest empty")
    else:
        even_private = forms.is_set(desk.given, "even_private")
        told = compose.of_peer(incident, newest, to, even_private=even_private)
    document = originate.expect(told, actions, text=text)
    return await _sent(desk, await originate.request(desk.store, origin, document, about=incident))


async def _asked(desk: Desk) -> Interaction | None:
    """The request that was chosen, by itself or by its incident; None: none was.

    Raises:
        ConfigError: what was typed names none.
    """
    chosen, typed = desk.first("request"), desk.first("incident")
    if typed:
        story = await desk.story(await desk.incident(typed))
        found = [one for one in story if one.outcome is None] or story
    elif chosen and not desk.is_paging("request"):
        found = await desk.records(Interaction, [keys.interaction(chosen)])
    else:
        return None
    mine = [
        one for one in found if one.host == desk.host and one.kind is Kind.REQUEST and one.way is Way.RECEIVED
    ]
    if not mine:
        raise ConfigError("no request is there")
    return mine[-1]


def _outcome(desk: Desk, asked: Interaction) -> Reply:
    wanted = list(dict.fromkeys(one.action for one in asked.document.expectations))[:_MOST_LISTED]
    options = tuple((pages.short(one, 80), str(n)) for n, one in enumerate(wanted))
    fields = [
        Field(var="request", kind=FieldKind.HIDDEN, values=(asked.id,)),
        forms.fixed(f"{asked.peer} asks for {pages.short(', '.join(wanted)) or 'nothing that it names'}"),
        forms.choice(
            "outcome",
            "What came of it",
            [(label, word) for word, label in _OUTCOMES.items()],
            desk.given,
            is_required=True,
        ),
        Field(
            var="actions",
            kind=FieldKind.LIST_MULTI,
            label="What was done",
            values=desk.given.get("actions", ()),
            options=options,
        ),
        forms.lines("text", "More about it, for people; if nothing is done: why", desk.given),
    ]
    return Reply(form=Form(title="Answer a request", fields=tuple(fields)), actions=("prev", "complete"))


async def respond(desk: Desk) -> Reply:
    """Answer a request, or ask what came of it; or show the next page of them."""
    desk.may_act()
    asked = await _asked(desk)
    if asked is None and desk.is_paging("request"):
        return await ask_response(desk)
    if asked is None:
        raise ConfigError("choose a request")
    chosen = forms.one_of(desk.given, "outcome", tuple(_OUTCOMES), "What came of it")
    if not chosen:
        return _outcome(desk, asked)
    outcome = Outcome(chosen)
    wanted = list(dict.fromkeys(one.action for one in asked.document.expectations))
    places = [int(one) for one in desk.given.get("actions", ()) if one.isdecimal() and len(one) < 4]  # noqa: PLR2004
    actions = tuple(dict.fromkeys(wanted[n] for n in places if n < len(wanted)))
    text = forms.text(desk.given, "text")
    if outcome is Outcome.PARTLY and not actions:
        raise ConfigError("tick what was done")
    if outcome is Outcome.DECLINED and not text:
        raise ConfigError("say why; the server that asked is told")
    whole = await desk.with_original(asked.id)
    done = await originate.respond(
        desk.store,
        _origin(desk, (asked.peer,)),
        whole,
        outcome=outcome,
        text=text,
        actions=actions if outcome is Outcome.PARTLY else (),
    )
    return await _sent(desk, done)


async def _sent(desk: Desk, made: Originated) -> Reply:
    """Say what was queued, and what comes of it in the first moments."""
    names = [keys.interaction(one.id) for one in made.interactions]

    async def look() -> list[Interaction]:
        return await desk.records(Interaction, names)

    sent = await watched(look, lambda found: not any(one.state in _OPEN for one in found))
    about = f"Incident {made.incident.id}. " if made.incident is not None else ""
    note = f"{about}It goes out by itself; what comes of it is shown with the incident."
    return forms.page("Sent", pages.sendings(sent), note=note)
