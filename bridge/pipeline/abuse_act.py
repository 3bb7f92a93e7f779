"""Suspending accounts of ours that users reported, because an operator says so; there is no incident.

House rule: whom it was done to is noted in the draft in the same commit.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from bridge.errors import ConfigError, ConflictError
from bridge.pipeline import abuse, approve
from bridge.pipeline.actors import Actor
from bridge.policy import abuse_act as rules_of
from bridge.policy.abuse_record import AbuseDraft
from bridge.policy.change import Change, Put
from bridge.policy.decisions import Approval, Grounds
from bridge.store.connect import Store

_ATTEMPTS = 10


class Host(Protocol):
    """What is configured of a host."""

    @property
    def admins(self) -> Collection[str]: ...  # noqa: D102


def admins_of(hosts: Mapping[str, Host], draft: AbuseDraft) -> frozenset[str]:
    """The admins that the operator configured of those hosts that a draft concerns."""
    return frozenset(
        jid for name in (draft.host, draft.domain) if name in hosts for jid in hosts[name].admins
    )


async def suspend(
    store: Store,
    draft_id: str,
    accounts: Sequence[str],
    *,
    hosts: Collection[str],
    admins: Collection[str],
    approval_id: str,
    actor: Actor,
    rules: approve.Rules,
    now: datetime,
    expires_at: datetime | None = None,
    second_yes: bool = False,
    reason: str = "",
) -> Approval:
    """Suspend accounts that a draft accuses.

    Args:
        store: where it lies.
        draft_id: which draft.
        accounts: as somebody typed them.
        hosts: those on which the actor may do that.
        admins: whom the operator configured as admins of these.
        approval_id: see `approve.act`, as for all that follows.
        actor: who says so.
        rules: the operator's.
        now: the time.
        expires_at: when it ends.
        second_yes: protected names are meant too.
        reason: for people.

    Raises:
        ConfigError: nothing can be done about it, see `abuse_act.objection`; NotMeantError: nothing about these
            accounts; ProtectedError: it needs a second yes.
        ConflictError: reports come faster than it can be done.
    """
    for _ in range(_ATTEMPTS):
        before = await approve.stored(store, approval_id)
        if before is not None:
            return before  # the answer got lost
        draft = await abuse.find(store, draft_id)
        why = rules_of.objection(draft, hosts)
        if why is not None:
            raise ConfigError(why)
        targets = rules_of.targets(draft, accounts, admins=admins)
        meant = (one.fields["account"] for one in targets)
        after = replace(draft, acted=tuple(dict.fromkeys((*draft.acted, *meant))))
        try:
            return await approve.act_on(
                store,
                draft.domain,
                targets,
                Grounds(draft_id=draft.id),
                approval_id=approval_id,
                actor=actor,
                rules=rules,
                now=now,
                expires_at=expires_at,
                second_yes=second_yes,
                reason=reason,
                more=Change(puts=(Put(draft, after),), counts=(("abuse", "acted"),)),
            )
        except ConflictError:
            continue
    raise ConflictError("users report faster than it can be decided; try again")
