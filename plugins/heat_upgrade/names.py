"""Ids and names that more than one part of the package has to know."""

from __future__ import annotations

# The steps for the whole cloud. A host's own group stands beside them, so no host can have such a name.
TASKS_OF_THE_DAG = frozenset(
    [
        "may_start",
        "preflight",
        "may_prepare",
        "prepare",
        "back_up_database",
        "create_vhost",
        "sync_database",
        "start_new_engines",
        "approve_switch",
        "may_switch",
        "wait_until_drained",
        "approve_retire",
        "retire",
        "verify_cloud",
        "delete_old_vhost",
        "show_plan",
        "watch_api",
        "report",
    ]
)
