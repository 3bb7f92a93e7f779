"""`letter`: the text for the people who look after a server that does not speak XEP-0268."""

import argparse
import asyncio
from datetime import UTC, datetime

from bridge.cli.acting import actor
from bridge.cli.arguments import Commands, UsageError, command
from bridge.cli.lookalike import address_cell
from bridge.cli.output import Exit, Terminal
from bridge.cli.stored import NotFoundError, hosts_of, opened, records
from bridge.clients.prosody import keys_of
from bridge.config import Settings, load_settings
from bridge.errors import ConfigError
from bridge.log import visible
from bridge.pipeline import persons
from bridge.policy.letter import letter, subject
from bridge.policy.outreach import Outreach
from bridge.policy.record import Interaction
from bridge.policy.standing import standing
from bridge.store import keys


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Declare the command."""
    made = command(commands, common, "letter", _run, "the text to mail about what a server could not take")
    made.add_argument("interaction", metavar="INTERACTION", help="its id, as incidents show has it")
    made.add_argument("--sent", action="store_true", help="note that you sent it")


def _run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    settings = load_settings(arguments.config)
    found, mail, text = asyncio.run(_letter(settings, arguments.interaction, is_sent=arguments.sent))
    known = mail or found.outreach
    to = "" if known is None else known.address
    if terminal.is_json:
        content = {"to": to, "subject": subject(found), "text": text, "standing": standing(found)}
        terminal.json({"interaction": found.id, "incident": found.incident_id, **content})
    elif arguments.sent:
        terminal.line(f"{found.id}  {found.kind} to {address_cell(found.peer)}  {visible(standing(found))}")
    else:
        terminal.line(f"To: {visible(to)}\nSubject: {subject(found)}\n\n{text}")
        if mail is not None:
            if not to:
                terminal.say(f"{address_cell(found.peer)} announces no mail address; you may know one.")
            terminal.say(f"Once you sent it: incident-bridge letter {found.id} --sent")
    return Exit.OK


async def _letter(
    settings: Settings, interaction_id: str, *, is_sent: bool
) -> tuple[Interaction, Outreach | None, str]:
    """The sending, whom it may be mailed to, and its text."""
    now = datetime.now(UTC)
    link = persons.links(
        settings.server.public_url,
        {name: keys_of(host) for name, host in settings.hosts.items()},
        days=settings.policy.answer_page_days,
    )
    async with opened(settings) as store:
        known = await records(store, [keys.interaction(interaction_id.strip().casefold())])
        found = known[0] if known else None
        if not isinstance(found, Interaction) or found.host not in hosts_of(settings, None):
            raise NotFoundError(
                f"there is no interaction {interaction_id}; see: incident-bridge incidents show ID"
            )
        try:
            after = await persons.mailed(store, found, actor=actor(), now=now) if is_sent else found
        except ConfigError as error:
            raise UsageError(str(error)) from None
        mail = await persons.by_mail(store, after)
        if after.outreach is None and mail is None:
            raise UsageError(f"{found.peer} itself was sent it: there is nobody else to write to")
    return after, mail, letter(after, link=link(after, now))
