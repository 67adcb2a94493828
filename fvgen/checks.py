"""One wording for every error: ``NAME must RULE, got VALUE. NEXT STEP.``"""

from __future__ import annotations

_LONGEST = 200
"""Characters of a value: a whole description may have come where a list was meant."""


class InputError(ValueError):
    """Bad input that a user can mend; its text names the thing, the rule, the value and the next step."""

    @property
    def rule(self) -> str:
        """The text without the value and the next step: ``NAME must RULE``."""
        return str(self).partition(", got ")[0]


def complaint(name: str, rule: str, value: object, next_step: str) -> str:
    """The sentence an error carries; of a value that is no text and long, its beginning."""
    got = str(value)
    if not isinstance(value, str) and len(got) > _LONGEST:
        got = f"{got[:_LONGEST]} (shortened)"
    return f"{name} must {rule}, got {got}. {next_step}"


def require(condition: bool, name: str, rule: str, value: object, next_step: str) -> None:
    """Raise `InputError` unless ``condition`` holds."""
    if not condition:
        raise InputError(complaint(name, rule, value, next_step))
