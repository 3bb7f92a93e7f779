"""What an operator thinks of an incident: written down, never told to a peer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from bridge.errors import ConfigError, ConflictError
from bridge.pipeline.actors import Actor, audits
from bridge.policy.change import Change, Put
from bridge.policy.decisions import MAX_NOTES, Note, Triage, TriageState
from bridge.policy.record import Incident
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store

_TRIES: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What is to be written down; None: as it is. A note is added to those there are."""

    state: TriageState | None = None
    assignee: str | None = None
    resolution: str | None = None
    note: str | None = None


async def triage(
    store: Store, incident: Incident, judgement: Judgement, *, actor: Actor, now: datetime
) -> Triage:
    """Write down what an operator thinks of an incident.

    Raises:
        ConfigError: it has as many notes as it may have.
        ConflictError: it changes faster than it can be written.
    """
    name = keys.triage(incident.id)
    for _ in range(_TRIES):
        found = (await load.fetch(store, names=[name])).records[name]
        before = found if isinstance(found, Triage) else None
        known = before or Triage(incident_id=incident.id, host=incident.host)
        after = _judged(known, judgement, by=actor.name, now=now)
        if after == known:
            return known
        after = replace(after, updated_at=now)
        entries = audits(
            [incident.host], actor, "incident.triage", incident.id, now=now, detail=_detail(judgement)
        )
        try:
            await commit(store, Change(puts=(Put(before, after),), audits=entries))
        except ConflictError:
            continue
        return replace(after, version=known.version + 1)
    raise ConflictError(f"incident {incident.id} is judged by others right now; try again")


def _judged(known: Triage, judgement: Judgement, *, by: str, now: datetime) -> Triage:
    notes: Sequence[Note] = known.notes
    if judgement.note is not None and not _is_there(notes, judgement.note, by):
        if len(notes) >= MAX_NOTES:
            raise ConfigError(f"the incident has {MAX_NOTES} notes; that is the most")
        notes = (*notes, Note(at=now, by=by, text=judgement.note))
    return replace(
        known,
        state=known.state if judgement.state is None else judgement.state,
        assignee=known.assignee if judgement.assignee is None else judgement.assignee,
        resolution=known.resolution if judgement.resolution is None else judgement.resolution,
        notes=tuple(notes),
    )


def _is_there(notes: Sequence[Note], text: str, by: str) -> bool:
    """Whether that is the last note already: a form that was sent twice."""
    return bool(notes) and (notes[-1].by, notes[-1].text) == (by, text)


def _detail(judgement: Judgement) -> str:
    words = [] if judgement.state is None else [str(judgement.state)]
    if judgement.assignee is not None:
        words.append(f"assigned to {judgement.assignee}" if judgement.assignee else "assigned to nobody")
    if judgement.resolution is not None:
        words.append("resolution written")
    if judgement.note is not None:
        words.append("note added")
    return ", ".join(words)
