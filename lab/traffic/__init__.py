"""Traffic on a Heat cloud, and the account of it."""

from lab.traffic.account import Account, table, verdict
from lab.traffic.hold import hold_old_side
from lab.traffic.process import Traffic
from lab.traffic.run import TrafficError

__all__ = ["Account", "Traffic", "TrafficError", "hold_old_side", "table", "verdict"]
