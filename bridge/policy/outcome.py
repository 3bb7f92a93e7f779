"""What a response says came of a request, and how ours say it.

House rule: an action that we do not know proves nothing; only the very action asked for counts as done.
"""

from bridge.iodef.model import Incident as Document
from bridge.policy.record import Outcome

_NOTHING = "nothing"


def outcome_of(response: Document, request: Document) -> Outcome | None:
    """Compare a response's History with what was asked; None: it does not say.

    Done if every action asked for stands in the History, partly if some do or an item says `nothing` besides,
    declined if one says `nothing` and no action stands there; what stood in the request's own History does not count.
    """
    asked = {one.action for one in request.expectations}
    before = {(one.action, one.at) for one in request.history}
    done = {one.action for one in response.history if (one.action, one.at) not in before}
    if asked and asked <= done and _NOTHING not in done:
        return Outcome.DONE
    if asked & done:
        return Outcome.PARTLY
    return Outcome.DECLINED if _NOTHING in done else None
