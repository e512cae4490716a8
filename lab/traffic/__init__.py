"""Traffic on a Heat cloud, and the account of it."""

from lab.traffic.account import Account
from lab.traffic.hold import hold_old_side
from lab.traffic.moments import judge_moments
from lab.traffic.process import Traffic
from lab.traffic.rules import verdict
from lab.traffic.run import TrafficError
from lab.traffic.tables import moments_table, table

__all__ = [
    "Account",
    "Traffic",
    "TrafficError",
    "hold_old_side",
    "judge_moments",
    "moments_table",
    "table",
    "verdict",
]
