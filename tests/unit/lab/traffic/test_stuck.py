"""A stack that nobody works on is told from one that only takes its time."""

from lab.traffic.stuck import Reading, StuckWatch, Underway

ALIVE = frozenset({"engine-1", "engine-2"})


def stack(name: str, *, owner: str | None = None, state: str = "same", engines: tuple[str, ...] = ()) -> Underway:
    return Underway(stack_id=name, name=name, owner_id=owner, state=state, engines=frozenset(engines))


def observe(watch: StuckWatch, now: float, *stacks: Underway) -> list[str]:
    return [found.name for found in watch.observe(Reading(stacks, ALIVE), now)]


def test_a_stack_is_stuck_when_it_has_not_changed_for_a_minute() -> None:
    watch = StuckWatch()
    assert observe(watch, 0, stack("lost")) == []
    assert observe(watch, 59, stack("lost")) == []
    assert observe(watch, 60, stack("lost")) == ["lost"]


def test_a_change_begins_the_minute_anew() -> None:
    watch = StuckWatch()
    observe(watch, 0, stack("slow", state="1 of 3"))
    observe(watch, 50, stack("slow", state="2 of 3"))
    assert observe(watch, 100, stack("slow", state="2 of 3")) == []
    assert observe(watch, 110, stack("slow", state="2 of 3")) == ["slow"]


def test_a_live_engine_at_work_is_waited_for() -> None:
    watch = StuckWatch()
    observe(watch, 0, stack("long", engines=("engine-1",)))
    assert observe(watch, 1000, stack("long", engines=("engine-1",))) == []


def test_a_dead_engines_lock_holds_nothing() -> None:
    watch = StuckWatch()
    observe(watch, 0, stack("lost", engines=("engine-0",)))
    assert observe(watch, 60, stack("lost", engines=("engine-0",))) == ["lost"]


def test_a_parent_that_polls_a_stuck_stack_is_stuck_with_it() -> None:
    tree = (
        stack("parent", engines=("engine-1",)),
        stack("child", owner="parent", engines=("engine-2",)),
        stack("grandchild", owner="child"),
        stack("other", engines=("engine-1",)),
    )
    watch = StuckWatch()
    observe(watch, 0, *tree)
    assert observe(watch, 60, *tree) == ["parent", "child", "grandchild"]


def test_a_stack_that_was_gone_in_between_starts_afresh() -> None:
    watch = StuckWatch()
    observe(watch, 0, stack("again"))
    observe(watch, 30)
    assert observe(watch, 60, stack("again")) == []
