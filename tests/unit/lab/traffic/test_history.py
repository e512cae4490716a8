"""What became of a stack and of its resources, told by their events: also where Heat tells it out of order."""

from lab.traffic.history import Attempt, Event, Resource, attempts, failures

CREATE_STARTED = Event("CREATE", "IN_PROGRESS", "Stack CREATE started")
CREATED = Event("CREATE", "COMPLETE", "Stack CREATE completed successfully")
CREATE_CANCELLED = Event("CREATE", "FAILED", "Stack CREATE cancelled")
UPDATE_STARTED = Event("UPDATE", "IN_PROGRESS", "Stack UPDATE started")
UPDATED = Event("UPDATE", "COMPLETE", "Stack UPDATE completed successfully")
UPDATE_BROKEN = Event("UPDATE", "FAILED", "(pymysql.err.IntegrityError) (1451, 'Cannot delete')")
DELETE_STARTED = Event("DELETE", "IN_PROGRESS", "Stack DELETE started")
DELETED = Event("DELETE", "COMPLETE", "Stack DELETE completed successfully")
NESTED_CANCELLED = Event("CREATE", "FAILED", "Resource CREATE failed: resources.outer: Stack CREATE cancelled")


def ends(*events: Event) -> list[tuple[str, str]]:
    return [(attempt.action, attempt.status) for attempt in attempts(events)]


def failed(*events: Event) -> list[Attempt]:
    return failures(attempts(events))


def test_each_action_is_an_attempt() -> None:
    told = ends(CREATE_STARTED, CREATED, UPDATE_STARTED, UPDATED, DELETE_STARTED, DELETED)
    assert told == [("CREATE", "COMPLETE"), ("UPDATE", "COMPLETE"), ("DELETE", "COMPLETE")]


def test_an_attempt_without_an_end_is_in_progress() -> None:
    assert ends(CREATE_STARTED) == [("CREATE", "IN_PROGRESS")]
    assert failed(CREATE_STARTED) == []


def test_an_end_that_is_taken_back_counts() -> None:
    assert failed(CREATE_STARTED, CREATED, UPDATE_STARTED, UPDATED, UPDATE_BROKEN) == [
        Attempt("UPDATE", "FAILED", UPDATE_BROKEN.reason)
    ]


def test_what_an_update_took_over_has_no_end_of_its_own() -> None:
    told = (CREATE_STARTED, UPDATE_STARTED, NESTED_CANCELLED, UPDATED)
    assert ends(*told) == [("CREATE", "IN_PROGRESS"), ("UPDATE", "COMPLETE")]
    assert failed(*told) == []


def test_a_failure_before_the_next_action_counts_though_that_goes_well() -> None:
    broken = Event("CREATE", "FAILED", "Resource CREATE failed: resources.a: Worker went down")
    assert len(failed(CREATE_STARTED, broken, UPDATE_STARTED, UPDATED)) == 1
    assert len(failed(CREATE_STARTED, broken, DELETE_STARTED, DELETED)) == 1


def test_what_the_user_deletes_in_progress_did_not_fail() -> None:
    assert failed(CREATE_STARTED, CREATE_CANCELLED, DELETE_STARTED, DELETED) == []
    # the echo of the same cancellation from a nested stack
    assert failed(CREATE_STARTED, CREATE_CANCELLED, NESTED_CANCELLED, DELETE_STARTED, DELETED) == []


def test_but_a_cancellation_that_no_delete_follows_did() -> None:
    assert len(failed(CREATE_STARTED, CREATE_CANCELLED)) == 1
    assert len(failed(CREATE_STARTED, CREATE_CANCELLED, UPDATE_STARTED, UPDATED)) == 1


def test_nor_is_a_nested_cancellation_the_users_own() -> None:
    assert len(failed(CREATE_STARTED, NESTED_CANCELLED, DELETE_STARTED, DELETED)) == 1


CREATING = Event("CREATE", "IN_PROGRESS", "state changed")
MADE = Event("CREATE", "COMPLETE", "state changed")
TAKEN = Event("CREATE", "FAILED", "Worker went down during resource CREATE")
BROKEN = Event("CREATE", "FAILED", "ValueError: Test Resource failed")
CANCELLED = Event("CREATE", "FAILED", "resources.outer: Stack CREATE cancelled")
UPDATING = Event("UPDATE", "IN_PROGRESS", "state changed")
DELETING = Event("DELETE", "IN_PROGRESS", "state changed")


def resource(*events: Event, kind: str = "OS::Heat::TestResource") -> tuple[bool, bool]:
    told = Resource("t-1-nested-outer-abc/0", kind, events)
    return told.stolen, told.created_twice


def test_a_resource_that_is_created_once_is_no_matter() -> None:
    assert resource(CREATING, MADE, UPDATING, Event("UPDATE", "COMPLETE", "state changed")) == (False, False)


def test_a_resource_that_is_replaced_after_its_lock_was_stolen_is_created_twice() -> None:
    assert resource(CREATING, TAKEN, CREATING, MADE) == (True, True)


def test_one_that_is_stolen_to_be_deleted_is_worked_on_twice_but_created_once() -> None:
    assert resource(CREATING, TAKEN, DELETING) == (True, False)
    taken = Event("DELETE", "FAILED", "Worker went down during resource DELETE")
    assert resource(CREATING, MADE, DELETING, taken, DELETING) == (True, False)


def test_a_second_creation_that_nothing_explains_is_one_whatever_heat_calls_it() -> None:
    assert resource(CREATING, MADE, CREATING, MADE) == (False, True)
    assert resource(CREATING, CREATING) == (False, True)


def test_what_heat_replaces_because_it_failed_does_not_count() -> None:
    assert resource(CREATING, BROKEN, CREATING, MADE) == (False, False)
    assert resource(CREATING, CANCELLED, CREATING, MADE) == (False, False)


def test_nor_does_what_an_update_replaces_by_nature() -> None:
    assert resource(CREATING, MADE, CREATING, MADE, kind="OS::Heat::RandomString") == (False, False)
    assert resource(CREATING, TAKEN, CREATING, kind="OS::Heat::RandomString") == (True, False)
