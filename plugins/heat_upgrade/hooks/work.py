"""What there is to work on and which engines are alive: read in one order, for all who ask what is stranded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heat_upgrade.readings import Work

if TYPE_CHECKING:
    from collections.abc import Iterable

    from heat_upgrade.hooks.heat_database import HeatDatabaseHook
    from heat_upgrade.hooks.rabbitmq import HeatRabbitMQHook


def read_work(rabbitmq: HeatRabbitMQHook, database: HeatDatabaseHook, vhosts: Iterable[str]) -> Work:
    """
    Read what there is to work on, and which engines are alive.

    :param rabbitmq: the management API
    :param database: Heat's database
    :param vhosts: vhosts of Heat's, of which some may not exist
    """
    existing = [vhost for vhost in dict.fromkeys(vhosts) if rabbitmq.vhost_exists(vhost)]
    listening = frozenset[str]().union(*map(rabbitmq.live_engine_ids, existing))
    # One that has listened there and doesn't any more is dead, however lately it has reported.
    known = frozenset[str]().union(*map(rabbitmq.engine_ids, existing))
    elsewhere = database.engines_heard_of() - known - listening
    # What is held comes first: an engine that takes a stack up after that changes it, as the stacks show.
    held = tuple(database.held())
    stacks = tuple(database.unfinished_stacks(also={row.stack_id for row in held}))
    return Work(stacks, held, listening, elsewhere)
