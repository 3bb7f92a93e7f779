"""What an operator can do here about accounts of ours that users reported.

House rules: only who was reported can be meant, and never an admin; nothing here does anything.
"""

from collections.abc import Collection, Iterable

from bridge.errors import ConfigError
from bridge.policy.abuse_record import AbuseDraft, Accused, DraftState
from bridge.policy.approval import MAX_TARGETS, own_target
from bridge.policy.decisions import MitigationType, Target
from bridge.xmpp.jid import shown


class NotMeantError(ConfigError):
    """An account cannot be suspended because of a draft: nobody reported it, or it is an admin's, or none of ours."""


def objection(draft: AbuseDraft, hosts: Collection[str]) -> str | None:
    """Say why nothing can be done here because of a draft; None: something can.

    Args:
        draft: which.
        hosts: those whose accounts can be suspended.
    """
    if draft.domain not in hosts:
        return f"{draft.domain} is no host of yours, so none of its accounts can be suspended here"
    if draft.state is not DraftState.OPEN:
        return f"it was {draft.state}, and nothing came since"
    return None


def suspendable(draft: AbuseDraft, admins: Collection[str]) -> tuple[Accused, ...]:
    """The accounts of ours that were reported and may be suspended; those that most reported first.

    Args:
        draft: where they are accused.
        admins: bare JIDs that are known as admins' besides those that Prosody said.
    """
    found = [one for one in draft.accused if "@" in one.jid and not one.is_admin and one.jid not in admins]
    return tuple(sorted(found, key=lambda one: -(one.reports + one.more)))


def targets(draft: AbuseDraft, accounts: Iterable[str], *, admins: Collection[str]) -> tuple[Target, ...]:
    """What suspending these accounts is, each once.

    Raises:
        NotMeantError: one of them cannot be meant, or there are too many, or none.
    """
    accused = {one.jid: one for one in draft.accused}
    found: dict[str, Target] = {}
    for text in accounts:
        try:
            made = own_target(draft.domain, MitigationType.SUSPEND, address=text)
        except ConfigError as error:
            raise NotMeantError(str(error)) from None
        jid = made.fields["account"]
        if jid in admins or (jid in accused and accused[jid].is_admin):
            raise NotMeantError(f"{shown(jid)} is an admin of this server, and is never suspended")
        if jid not in accused:
            raise NotMeantError(f"{shown(jid)} is not among those that users reported")
        found[jid] = made
    if not found:
        raise NotMeantError("no account was named")
    if len(found) > MAX_TARGETS:
        raise NotMeantError(
            f"one yes covers {MAX_TARGETS} accounts, these are {len(found)}; choose some of them"
        )
    return tuple(found.values())
