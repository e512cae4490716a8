"""The vhosts that an upgrade makes and deletes in RabbitMQ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from heat_upgrade.hooks.rabbitmq import HeatRabbitMQHook
from rabbitmq_management.api import Row, quoted
from rabbitmq_management.hooks.management import PERMISSION, POLICY


@dataclass(frozen=True)
class VhostChange:
    """One request that makes a vhost more like another, and what it does in words."""

    text: str
    method: str
    path: str
    body: Row | None = None

    def __str__(self) -> str:
        """Return what it does."""
        return self.text

    @property
    def request(self) -> str:
        """Return the request as it is sent, below the server's address."""
        return f"{self.method} /api/{self.path}" + (f" {json.dumps(self.body)}" if self.body else "")


@dataclass(frozen=True)
class _Copied:
    """
    What belongs to a vhost and is copied.

    :param text: what a copy does, in words
    :param listed: path of the vhost's own
    :param kind: what a path begins with under which one is written
    :param key: the field that such a path ends with
    :param fields: the fields of each, and what they have to be
    """

    text: str
    listed: str
    kind: str
    key: str
    fields: Mapping[str, type]

    def change(self, vhost: str, row: Row) -> VhostChange:
        path = f"{self.kind}/{quoted(vhost)}/{quoted(row[self.key])}"
        body = {field: row[field] for field in self.fields if field != self.key}
        return VhostChange(self.text.format(**row), "PUT", path, body)


_COPIED = (
    _Copied("permissions of user {user!r}", "vhosts/{vhost}/permissions", "permissions", "user", PERMISSION),
    _Copied(
        "topic permissions of user {user!r} on exchange {exchange!r}",
        "vhosts/{vhost}/topic-permissions",
        "topic-permissions",
        "user",
        dict.fromkeys(("user", "exchange", "write", "read"), str),
    ),
    _Copied("policy {name!r}", "policies/{vhost}", "policies", "name", POLICY),
    _Copied("operator policy {name!r}", "operator-policies/{vhost}", "operator-policies", "name", POLICY),
)


# The first version without mirrored queues: policies from before keep their settings there, which do nothing.
_NO_MIRRORING = 4


def _mirroring(change: VhostChange) -> list[str]:
    definition = (change.body or {}).get("definition", {})
    return sorted(setting for setting in definition if setting.startswith("ha-"))


class VhostHook(HeatRabbitMQHook):
    """Make a vhost like another one, and delete one that nobody uses."""

    def changes(self, source: str, target: str) -> list[VhostChange]:
        """
        Return what is missing for a vhost to serve like another; nothing once the source has been deleted.

        :param source: the vhost to be like
        :param target: the vhost to make
        :raises RabbitMQManagementError: when neither exists
        """
        like, made = self.vhost(source), self.vhost(target)
        if like is None and made is None:
            raise self.api.error(
                f"has neither vhost {source!r} nor vhost {target!r}, expected at least the first: "
                "check the releases' vhosts in the cloud file",
                404,
            )
        if like is None:
            return []
        copies = [change for copied in _COPIED for change in self._missing(copied, source, target, made is not None)]
        self._check_mirroring(source, copies)
        return [*(self._creation(target, like) if made is None else ()), *copies]

    def create_like(self, source: str, target: str) -> list[str]:
        """
        Make a vhost that serves like another, and return what was changed in words: nothing the second time.

        Copied are permissions, topic permissions, policies, operator policies and the default queue type.

        :param source: the vhost to be like
        :param target: the vhost to make
        """
        changes = self.changes(source, target)
        for change in changes:
            self.log.info("vhost %r: %s", target, change.text)
            self.api.call(change.method, change.path, change.body)
        return [change.text for change in changes]

    def delete(self, vhost: str) -> bool:
        """
        Delete a vhost that nobody is connected to, with its queues; False if it doesn't exist.

        :param vhost: the vhost
        :raises RabbitMQManagementError: while a client is connected
        """
        if not self.vhost_exists(vhost):
            return False
        if clients := self.clients(vhost):
            raise self.api.error(
                f"has clients on vhost {vhost!r}, expected none: stop {', '.join(sorted(set(map(str, clients))))}"
            )
        deletion = self.deletion(vhost)
        self.api.call(deletion.method, deletion.path)
        return True

    def deletion(self, vhost: str) -> VhostChange:
        """
        Return what deletes a vhost.

        :param vhost: the vhost
        """
        return VhostChange("deleted", "DELETE", f"vhosts/{quoted(vhost)}")

    def _creation(self, vhost: str, like: Row) -> list[VhostChange]:
        kind = like.get("default_queue_type")
        # RabbitMQ up to 3.11.11 knows the second name only, and none lets the type be changed later.
        body = {} if kind in (None, "", "undefined") else {"default_queue_type": kind, "defaultqueuetype": kind}
        own = quoted(self.api.endpoint.login)
        return [
            VhostChange("created", "PUT", f"vhosts/{quoted(vhost)}", body),
            # RabbitMQ gives its creator all permissions: only those of the other vhost are to be.
            VhostChange("its creator's permissions taken back", "DELETE", f"permissions/{quoted(vhost)}/{own}"),
        ]

    def _missing(self, copied: _Copied, source: str, target: str, exists: bool) -> list[VhostChange]:
        there = self._copies(copied, target) if exists else []
        wanted = self._copies(copied, source)
        present = [copied.change(target, row) for row in there]
        return [change for row in wanted if (change := copied.change(target, row)) not in present]

    def _check_mirroring(self, source: str, copies: list[VhostChange]) -> None:
        """Check that no policy has what its server keeps from before and takes no more: a copy would be refused."""
        mirroring = {change.text: kept for change in copies if (kept := _mirroring(change))}
        if not mirroring:
            return
        version = str(self.api.row("overview?columns=rabbitmq_version").get("rabbitmq_version"))
        major = version.partition(".")[0]
        if major.isdigit() and int(major) >= _NO_MIRRORING:
            named = "; ".join(f"{', '.join(kept)} of {text}" for text, kept in mirroring.items())
            raise self.api.error(
                f"would refuse a copy of {named} of vhost {source!r}, expected no ha-* setting, as RabbitMQ {version} "
                f"mirrors no queue and takes none any more: set the policy without them, or delete it where it has "
                f"nothing else (`rabbitmqctl clear_policy` or `clear_operator_policy`, with -p {source})",
                final=True,
            )

    def _copies(self, copied: _Copied, vhost: str) -> list[Row]:
        return self.api.rows(copied.listed.format(vhost=quoted(vhost)), copied.fields)
