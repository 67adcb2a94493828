"""One wording for every error: ``NAME must RULE, got VALUE. NEXT STEP.``"""

from __future__ import annotations


class InputError(ValueError):
    """Bad input that a user can mend; its text names the thing, the rule, the value and the next step."""

    @property
    def rule(self) -> str:
        """The text without the value and the next step: ``NAME must RULE``."""
        return str(self).partition(", got ")[0]


def complaint(name: str, rule: str, value: object, next_step: str) -> str:
    """The sentence an error carries."""
    return f"{name} must {rule}, got {value}. {next_step}"


def require(condition: bool, name: str, rule: str, value: object, next_step: str) -> None:
    """Raise `InputError` unless ``condition`` holds."""
    if not condition:
        raise InputError(complaint(name, rule, value, next_step))
