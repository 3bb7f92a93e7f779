"""What was repaired in a document: the record, and the list it is collected in.

House rules: a repair names where, what was wrong and what was done, for the operator and for the peer's operator.
"""

from dataclasses import dataclass, field

MAX_REPAIRS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """One deviation that was accepted."""

    path: str
    rule: str
    done: str


@dataclass(slots=True, kw_only=True)
class Context:
    """What the repairs of one document share: defaults that come from outside, and the list so far."""

    default_name: str | None
    purpose: str | None
    repairs: list[Repair] = field(default_factory=list)
    unlisted: int = 0

    def log(self, path: str, rule: str, done: str) -> None:
        """List a repair; beyond `MAX_REPAIRS` they are only counted, so that no document fills the store."""
        if len(self.repairs) < MAX_REPAIRS:
            self.repairs.append(Repair(path=path[:300], rule=rule, done=done))
        else:
            self.unlisted += 1

    def listed(self) -> tuple[Repair, ...]:
        """All repairs, the last one telling how many more there are."""
        if not self.unlisted:
            return tuple(self.repairs)
        rest = Repair(
            path="", rule=f"{self.unlisted} further deviations", done="repaired without listing each"
        )
        return (*self.repairs, rest)
