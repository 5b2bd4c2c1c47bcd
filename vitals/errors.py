"""The exception tree.

VitalgateError
├── ConfigError            refuse to start; names the setting            (exit 3)
├── DecodeError            a payload is not what its adapter expects     (quarantine)
├── BackendError           a backend failed; ``retryable`` says whether to back off and keep the batch
│   └── PositionConflict   another owner moved the consumer's position   (never retryable)
├── NotAuthorised          the caller may not do this
├── NotFound               no such thing                                 (exit 5, HTTP 404)
└── InvalidRequest         the caller's words are wrong; names the field (exit 2, HTTP 422)

Rows are never exceptions: a suspect value is flagged and kept.
"""

from vitals.glossary import Reason


class VitalgateError(Exception):
    """Root of every error the pipeline raises on purpose."""


class ConfigError(VitalgateError):
    """A setting is wrong; ``setting`` is its dotted name."""

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting}: {problem}")
        self.setting = setting


class DecodeError(VitalgateError):
    """A payload cannot be decoded; ``reason`` is of the closed list, ``detail`` carries no payload text."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail


class BackendError(VitalgateError):
    """A log, store or book failed."""

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable


class PositionConflict(BackendError):
    """Compare-and-set of a consumer's position failed: somebody else owns this stream."""

    def __init__(self, consumer: str, expected: int, found: int) -> None:
        super().__init__(f"{consumer}: position is {found}, expected {expected}", retryable=False)
        self.consumer, self.expected, self.found = consumer, expected, found


class NotAuthorised(VitalgateError):
    """The caller is unknown or may not do this."""


class NotFound(VitalgateError):
    """There is no ``kind`` with this id."""

    def __init__(self, kind: str, ident: str) -> None:
        super().__init__(f"no such {kind}: {ident}")
        self.kind, self.ident = kind, ident


class InvalidRequest(VitalgateError):
    """A value from outside is refused before anything changes; ``field`` is its path."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
