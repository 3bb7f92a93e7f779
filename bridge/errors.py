"""Everything that can go wrong, split by who is at fault and what to do about it.

    BridgeError
    ├── RefusedError        the peer's fault: answer with this stanza error
    │   └── MalformedError  its XML or IODEF breaks a rule; names the path and the rule
    ├── UnavailableError    nobody's fault: try again later
    ├── UnsupportedError    Prosody's module is too old for this: go on without, tell the operator to update it
    ├── ConflictError       somebody else was faster: load again, decide again
    ├── SignatureError      a signed message is not from whom it says: answer 401, tell the operator
    │   └── TimestampError  it is, but one of the two clocks is wrong
    └── ConfigError         the operator's: says what to change, and where
        └── StoreConfigError  it is about the store: nobody who only asks us can do anything about it
            └── FormatError   also UnavailableError: a newer release wrote this; whoever runs that one can go on with it

The base class is caught only at the three edges: `web/`, `worker/`, `cli/`.
"""

from dataclasses import dataclass
from enum import StrEnum


class ErrorType(StrEnum):
    """What the sender of a refused IQ may do next (RFC 6120 §8.3.2)."""

    AUTH = "auth"
    CANCEL = "cancel"
    MODIFY = "modify"
    WAIT = "wait"


class Condition(StrEnum):
    """The defined conditions this project sends (RFC 6120 §8.3.3)."""

    BAD_REQUEST = "bad-request"
    FEATURE_NOT_IMPLEMENTED = "feature-not-implemented"
    FORBIDDEN = "forbidden"
    INTERNAL_SERVER_ERROR = "internal-server-error"
    ITEM_NOT_FOUND = "item-not-found"
    POLICY_VIOLATION = "policy-violation"
    RESOURCE_CONSTRAINT = "resource-constraint"


@dataclass(frozen=True, slots=True)
class StanzaError:
    """One stanza error as it goes to a peer; `text` is English and names what was wrong."""

    type: ErrorType
    condition: Condition
    text: str


class BridgeError(Exception):
    """The root; never raised itself."""


class RefusedError(BridgeError):
    """The peer asked for something it does not get; `stanza_error` is the answer."""

    def __init__(self, stanza_error: StanzaError) -> None:
        super().__init__(f"{stanza_error.type}/{stanza_error.condition}: {stanza_error.text}")
        self.stanza_error = stanza_error


class MalformedError(RefusedError):
    """What the peer sent breaks a rule of XML, XMPP or IODEF; answered `modify/bad-request`.

    Args:
        path: where, as element names from the root (`Incident/EventData[2]/Flow`), or "" for the whole.
        rule: what is wrong and what is expected, one English sentence without the full stop.
        condition: another condition than `bad-request`, where DESIGN §5 names one.
    """

    def __init__(self, path: str, rule: str, *, condition: Condition = Condition.BAD_REQUEST) -> None:
        self.path = path
        self.rule = rule
        text = f"{path}: {rule}" if path else rule
        super().__init__(StanzaError(ErrorType.MODIFY, condition, text))


class UnavailableError(BridgeError):
    """Something needed does not answer now; the same thing may work `retry_after_seconds` later."""

    def __init__(self, what: str, *, retry_after_seconds: float = 1.0) -> None:
        super().__init__(what)
        self.retry_after_seconds = retry_after_seconds


class UnsupportedError(BridgeError):
    """The other side does not know what it was asked to do; the same thing will not work later either."""


class ConflictError(BridgeError):
    """The state decided on is no longer the state stored; nothing was written."""


class SignatureError(BridgeError):
    """A signed message does not verify; `malformed` when its headers are not even of the right form."""

    def __init__(self, reason: str, *, malformed: bool = False) -> None:
        super().__init__(reason)
        self.malformed = malformed


class TimestampError(SignatureError):
    """The signature is good and the message too old or too new; `now` is the receiver's Unix time in seconds."""

    def __init__(self, reason: str, *, now: float) -> None:
        super().__init__(reason)
        self.now = now


class ConfigError(BridgeError):
    """The configuration or the environment is not usable; the message says what to type."""


class StoreConfigError(ConfigError):
    """The store refuses us, or holds what a newer release wrote; the message may name its address."""


class FormatError(StoreConfigError, UnavailableError):
    """A newer release wrote this; a worker of this one leaves it to those of that one."""
