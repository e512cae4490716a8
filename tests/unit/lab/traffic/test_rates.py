"""More failures than Heat's own are told from chance, exactly and with little data."""

from math import comb

from lab.traffic.rates import HEATS_OWN, LEVEL, Rate, is_worse


def test_the_test_is_fishers() -> None:
    # The lady tasting tea: 3 of 4 or more by chance in 17 of 70 cases, 4 of 4 in one.
    assert not is_worse(Rate(3, 4), Rate(1, 4))
    assert not is_worse(Rate(4, 4), Rate(0, 4))
    # 10 of 10 against 0 of 10: one of 184756.
    assert is_worse(Rate(10, 10), Rate(0, 10))


def test_a_rate_like_the_references_is_never_worse() -> None:
    for failed in range(0, 31, 3):
        assert not is_worse(Rate(failed, 300), Rate(failed, 300))
        assert not is_worse(Rate(failed, 300), Rate(4 * failed, 1200))


def test_the_more_fail_the_worse_and_less_is_no_reason() -> None:
    judged = [is_worse(Rate(failed, 150), Rate(3, 600)) for failed in range(20)]
    assert judged == sorted(judged)
    assert not judged[3]
    assert judged[8]


def test_a_healthy_run_is_called_worse_about_as_seldom_as_the_level_says() -> None:
    # All ways in which 12 failures of 900 stacks can fall on a run of 300 of them, by how likely they are.
    ways = [comb(300, here) * comb(600, 12 - here) for here in range(13)]
    bad = sum(count for here, count in enumerate(ways) if is_worse(Rate(here, 300), Rate(12 - here, 600)))
    assert 0 < bad < LEVEL * comb(900, 12)


def test_samples_add_up() -> None:
    assert Rate(1, 30) + Rate(3, 600) == Rate(4, 630)


def test_what_heat_does_by_itself_is_rare() -> None:
    assert HEATS_OWN
    for kind, rate in HEATS_OWN.items():
        assert 0 < rate.failed < rate.stacks / 20, kind
