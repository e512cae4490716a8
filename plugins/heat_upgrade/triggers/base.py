"""What triggers share: arguments, threads of their own, and what they keep with their task while it waits."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from airflow.triggers.base import BaseTrigger

from heat_upgrade import compat
from heat_upgrade.names import HISTORY
from heat_upgrade.readings import Unavailable, read

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Arguments = TypeVar("Arguments", bound=DataclassInstance)
else:
    Arguments = TypeVar("Arguments")

T = TypeVar("T")

# Seconds: no wait is held up for longer by what only a report needs.
CHECKPOINT_TIMEOUT = 10.0


class ArgumentsTrigger(BaseTrigger, Generic[Arguments]):
    """
    A trigger whose arguments are a frozen dataclass, from whose fields a triggerer makes it again.

    :cvar kind: the dataclass; its fields are what JSON holds
    :cvar threads: how many calls that block it makes at once
    :param arguments: the arguments, as a task gives them
    :param fields: the same, as a triggerer gives them
    """

    kind: ClassVar[type[Any]]
    threads: ClassVar[int] = 2

    def __init__(self, arguments: Arguments | None = None, **fields: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.arguments: Arguments = arguments or self.kind(**fields)
        self._pool: ThreadPoolExecutor | None = None
        self._asked: dict[str, asyncio.Task[Any]] = {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again."""
        return f"{type(self).__module__}.{type(self).__qualname__}", asdict(self.arguments)

    async def blocking(self, call: Callable[[], T], timeout: float | None = None) -> T:
        """
        Make a call that blocks, in a thread that no other trigger needs: one that hangs holds up nobody else.

        :param call: what to call
        :param timeout: seconds to wait for it
        :raises TimeoutError: when it takes longer; the call itself goes on
        """
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix=type(self).__name__)
        # With the context, by which Airflow knows whose log a line belongs to.
        context = contextvars.copy_context()
        running = asyncio.get_running_loop().run_in_executor(self._pool, context.run, call)
        return await asyncio.wait_for(running, timeout)

    async def answer(self, name: str, ask: Callable[[], T], timeout: float) -> T | Unavailable:
        """
        Ask a server; while it still owes an answer it isn't asked again, so that no threads pile up.

        :param name: the server, for the trigger's own use
        :param ask: asks it
        :param timeout: seconds to wait for it
        """
        asked = self._asked.get(name)
        if asked is None or asked.done():
            asked = self._asked[name] = asyncio.create_task(self.blocking(partial(read, ask)))
            await asyncio.wait([asked], timeout=timeout)
            if asked.done():
                return cast("T | Unavailable", asked.result())
        return Unavailable(f"no answer within {timeout:.0f} s")

    async def cleanup(self) -> None:
        """Let go of the threads; those that still wait for an answer end with it."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def checkpoint(self, state: dict[str, Any]) -> None:
        """
        Store what the trigger has seen so far as an XCom of its task; do without where that fails.

        :param state: what it has seen
        """
        if (task := self._task) is None:
            return
        try:
            await asyncio.wait_for(compat.store_xcom(task, HISTORY, state), CHECKPOINT_TIMEOUT)
        except Exception as error:
            self.log.warning("Could not store what the report shows of this wait (%s): going on", type(error).__name__)

    async def restore(self) -> dict[str, Any] | None:
        """Return what the trigger has stored before a restart; None where it hasn't, or where that can't be read."""
        if (task := self._task) is None:
            return None
        try:
            state = await asyncio.wait_for(compat.stored_xcom(task, HISTORY), CHECKPOINT_TIMEOUT)
        except Exception as error:
            self.log.warning(
                "Could not read what this wait has stored before (%s): starting over", type(error).__name__
            )
            return None
        return state if isinstance(state, dict) else None

    @property
    def _task(self) -> dict[str, str] | None:
        instance = self.task_instance
        if instance is None:
            return None
        return {"dag_id": instance.dag_id, "task_id": instance.task_id, "run_id": instance.run_id}
