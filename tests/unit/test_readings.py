"""What readings are made of: names of queues and engines, and what stands where nothing could be read."""

from __future__ import annotations

import pytest

from heat_upgrade.readings import carries_work, engine_of, is_notification
from tests.unit._helpers.readings import stack


@pytest.mark.parametrize(("age", "expected"), [(None, "age unknown"), (-5, "age 0 s"), (90061, "age 1 d 1 h")])
def test_every_age_can_be_told(age, expected):
    assert expected in str(stack(age=age))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("engine", True),
        ("engine.controller-1", True),
        ("engine_worker", True),
        ("engine_worker.61f3c624", True),
        ("heat-engine-listener.61f3c624", True),
        ("engine_fanout_84ca2bc5", False),
        ("engine_worker_fanout_84ca2bc5", False),
        ("engine_fanout", False),
        ("reply_84ca2bc5", False),
        ("notifications.info", False),
        ("my-engine", False),
    ],
)
def test_only_topics_and_engines_own_queues_carry_work(name, expected):
    assert carries_work(name) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("notifications.info", True), ("notifications.error", True), ("notifications", False), ("engine", False)],
)
def test_what_heat_tells_others_is_known_by_its_queues(name, expected):
    assert is_notification(name) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("heat-engine-listener.61f3c624-32d0", "61f3c624-32d0"),
        ("heat-engine-listener", None),
        ("heat-engine-listener.", None),
        ("heat-engine-listener_fanout_1b7c", None),
        ("heat-engine-listener_fanout", None),
        ("engine_worker.61f3c624-32d0", None),
    ],
)
def test_listener_queues_tell_the_ids_of_the_engines(name, expected):
    assert engine_of(name) == expected
