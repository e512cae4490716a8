"""How often Heat breaks a stack by itself, and whether a run has broken more than that explains."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import comb

# How often a healthy run may be called worse. A verdict tests a handful of kinds, and ten verdicts in a row have to
# hold: at one in a thousand, fewer than one of twenty such series fails by chance.
LEVEL = Fraction(1, 1000)


@dataclass(frozen=True)
class Rate:
    """Of so many stacks, so many failed."""

    failed: int
    stacks: int

    def __add__(self, other: "Rate") -> "Rate":
        """Take two samples as one."""
        return Rate(self.failed + other.failed, self.stacks + other.stacks)


def is_worse(run: Rate, reference: Rate) -> bool:
    """Return whether a run breaks stacks more often than a reference does.

    Fisher's exact test, one-sided: were both of one rate, how likely is it that the run has as many of all the
    failures as it has, or more? Exact, since a failure or two is what there usually is.

    :param run: what is judged.
    :param reference: what it is compared with.
    """
    failed, stacks = run.failed + reference.failed, run.stacks + reference.stacks
    as_many = range(run.failed, min(failed, run.stacks) + 1)
    ways = sum(comb(run.stacks, here) * comb(reference.stacks, failed - here) for here in as_many)
    return Fraction(ways, comb(stacks, failed)) < LEVEL


# What came of the deck without an upgrade, by kind. Of 1117 stacks on release 25.0.2, all seven that failed were
# groups that were updated in progress. An earlier measurement of wide stacks alone saw one of 200 break
# that were deleted in progress; the deck has two such cards among 54 stacks, so they stand for 5400 of it.
HEATS_OWN: Mapping[str, Rate] = {
    "UPDATE: Stack UPDATE cancelled": Rate(4, 1117),
    "UPDATE: MySQL IntegrityError 1451, constraint resource_ibfk_1": Rate(3, 1117),
    "DELETE: MySQL IntegrityError 1451, constraint resource_ibfk_1": Rate(1, 5400 + 1117),
}
