"""A real Heat cloud on one machine, for the demo, the comparisons and the tests."""

import sys
from pathlib import Path

# The upgrade's package, as Airflow finds it too; no variable that the lab's own processes would inherit.
_PLUGINS = str(Path(__file__).parents[1] / "plugins")
if _PLUGINS not in sys.path:
    sys.path.append(_PLUGINS)
