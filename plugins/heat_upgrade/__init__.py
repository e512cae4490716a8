"""
Rolling upgrades of OpenStack Heat, run by Airflow.

Rooms, one a line or beside each other; each imports only from those below it, and ``make lint`` keeps it so::

    plugin, provider                what Airflow loads and is told
    dag_factory                     what the DAG files are made of
    sensors
    operators                       Airflow's tasks
    preflight, triggers             checks before a run; waits during it
    dag_params, notifications       the trigger form; messages
    run                             plan, approvals, timings, dry run
    hosts                           what hosts run
    clients                         a cloud's hooks, made in one place
    hooks                           the only code that connects
    remote, drain, timetables       commands as text; the drain's rule; the calendar
    stranded                        which stacks nobody works on
    readings, report, cloud, read_only
    names, problems, windows, formatting, exceptions, compat

``router`` runs on the hosts, in Heat's own environment, and imports nothing of the rest.
"""

__version__ = "0.1.0"
