"""The manual of settings, made of the settings themselves: their names, docstrings and defaults."""

from typing import Any


def manual(settings: Any) -> list[tuple[str, str]]:
    """Each setting of the class as it is named in the environment, and its description."""
    return [
        (name.upper(), " ".join((field.description or "").split()) + _default(field))
        for name, field in settings.model_fields.items()
    ]


def _default(field: Any) -> str:
    """The default as it would be written in the environment, where there is one to write."""
    value = field.get_default(call_default_factory=True)
    value = getattr(value, "get_secret_value", lambda: value)()
    if isinstance(value, bool):
        return f"  [default: {str(value).lower()}]"
    if isinstance(value, float):
        return f"  [default: {value:g}]"
    return f"  [default: {value}]" if isinstance(value, int | str) and value != "" else ""
