"""The answer page: what a server's operators were told, for those whose server does not speak XEP-0268.

House rules: it is open to whoever has the link, so it shows what that person was sent and nothing else; looking changes
nothing; a link that is not good and one that there never was look the same.
"""

from functools import partial
from http import HTTPStatus
from typing import Final

from aiohttp import web

from bridge.pipeline import persons
from bridge.policy.answer_link import PATH
from bridge.policy.letter import MAX_ITEMS, counters_told, items
from bridge.policy.outreach import MAX_ANSWER_CHARACTERS, PersonsAnswer, Verdict
from bridge.policy.record import Interaction
from bridge.web.console.guard import Refusal, Visit, get, post

_MOST: Final = 200
_MOST_ITEM_CHARACTERS: Final = 10_000
_NOT_GOOD: Final = Refusal(
    HTTPStatus.NOT_FOUND,
    "This link is not good any more",
    "It was answered, or its time is over, or it is not complete. The message that it was in can be answered, too.",
)


async def show(visit: Visit) -> web.Response:
    """Show what was sent, and the three answers."""
    return _page(visit, await _meant(visit))


async def take(visit: Visit) -> web.Response:
    """Note the answer."""
    typed, text = await visit.field("verdict"), (await visit.field("text"))[:MAX_ANSWER_CHARACTERS]
    interaction = await _meant(visit)
    try:
        verdict = Verdict(typed)
    except ValueError:
        return _page(visit, interaction, problem="Choose one of the three answers.", text=text)
    if verdict is Verdict.NEED_MORE and not text:
        return _page(visit, interaction, problem="Say what you need.", text=text)
    given = PersonsAnswer(at=visit.now, text=text, verdict=verdict, is_by_page=True)
    word = visit.request.match_info["word"]
    if await persons.answer(visit.store, word, given, keys_by_host=visit.service.keys, now=visit.now) is None:
        raise _NOT_GOOD
    return visit.page("answered.html", title="Thank you", interaction=interaction, verdict=verdict)


async def _meant(visit: Visit) -> Interaction:
    word = visit.request.match_info["word"][:_MOST]
    found = await persons.find(visit.store, word, keys_by_host=visit.service.keys, now=visit.now)
    if found is None:
        raise _NOT_GOOD
    return found


def _page(visit: Visit, interaction: Interaction, *, problem: str = "", text: str = "") -> web.Response:
    return visit.page(
        "answer.html",
        title=f"{interaction.kind} from {interaction.host}".capitalize(),
        interaction=interaction,
        document=interaction.document,
        counted=partial(counters_told, is_own=interaction.is_about_own),
        items=items(interaction),
        most_items=MAX_ITEMS,
        most_characters=_MOST_ITEM_CHARACTERS,
        verdicts=(
            (Verdict.DONE, "Done"),
            (Verdict.DECLINED, "Declined"),
            (Verdict.NEED_MORE, "We need more"),
        ),
        problem=problem,
        text=text,
        most=MAX_ANSWER_CHARACTERS,
        status=HTTPStatus.UNPROCESSABLE_ENTITY if problem else HTTPStatus.OK,
    )


def routes() -> list[web.RouteDef]:
    """Return the routes of the answer page."""
    where = PATH + "{word}"
    return [get(where, show, is_open=True), post(where, take, is_open=True)]
