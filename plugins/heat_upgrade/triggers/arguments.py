"""A trigger that is made anew from its own arguments."""

from __future__ import annotations

from typing import Any, ClassVar

from airflow.triggers.base import BaseTrigger


class ArgumentsTrigger(BaseTrigger):
    """
    Keep the arguments of a trigger, each under its own name, for whichever triggerer runs it next.

    :cvar arguments: names of the constructor's arguments, and of the attributes that hold them
    """

    arguments: ClassVar[tuple[str, ...]]

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger anew."""
        kept = {name: getattr(self, name) for name in self.arguments}
        return f"{type(self).__module__}.{type(self).__qualname__}", kept
