"""What Airflow finds in a clone's plugins folder; where the package is installed, its entry point has it already."""

from importlib.metadata import entry_points

if not entry_points(group="airflow.plugins", name="heat_upgrade"):
    from heat_upgrade.plugin import HeatUpgradePlugin  # noqa: F401
