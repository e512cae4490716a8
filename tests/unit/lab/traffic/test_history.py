"""What became of a stack, told by its events: also where Heat tells it out of order."""

from lab.traffic.history import Attempt, Event, attempts, failures

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
