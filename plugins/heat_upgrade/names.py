"""Ids of DAGs and tasks, and keys of XComs: each is spelled here, and nowhere else."""

# What the ids of DAGs begin with; the cloud's name follows.
ROLLING_UPGRADE, COLD_UPGRADE = "heat_rolling_upgrade", "heat_cold_upgrade"
PREFLIGHT_ALONE, STRANDED_STACKS = "heat_preflight", "heat_stranded_stacks"
# What upgrades a cloud; one run of them all at a time.
UPGRADES = (ROLLING_UPGRADE, COLD_UPGRADE)

# Tasks of an upgrade, and groups with a task for each host, in the order of the runs.
MAY_START = "may_start"
PREFLIGHT = "preflight"
MAY_PREPARE = "may_prepare"
PREPARE = "prepare"
BACKUP = "back_up_database"
VHOST = "create_vhost"
SYNC = "sync_database"
START_ENGINES = "start_new_engines"
START_BESIDE = "start_beside"
PROVE = "prove_new_side"
APPROVE_FLIP = "approve_flip"
MAY_FLIP = "may_flip"
FLIP_CANARY = "flip_canary"
WATCH_CANARY = "watch_canary"
END_CANARY = "end_canary"
FLIP = "flip"
APPROVE_OUTAGE = "approve_outage"
MAY_STOP = "may_stop"
STOP_APIS = "stop_apis"
DRAIN = "wait_until_drained"
CONFIRM = "confirm_cut_off"
APPROVE_RETIRE = "approve_retire"
CLOSE = "close"
RETIRE = "retire"
STOP_ENGINES = "stop_engines"
START_APIS = "start_apis"
VERIFY = "verify_cloud"
DELETE_VHOST = "delete_old_vhost"
SHOW_PLAN = "show_plan"
WATCH = "watch_api"
REPORT = "report"

# A host's own tasks in a rolling upgrade; groups in a cold one.
LEAVE, SWITCH, REJOIN = "leave_rotation", "switch_api", "rejoin_rotation"

# Hosts' own groups stand beside these, so no host can have such a name.
BESIDE_HOSTS = frozenset(
    [
        MAY_START,
        PREFLIGHT,
        MAY_PREPARE,
        PREPARE,
        BACKUP,
        VHOST,
        SYNC,
        START_ENGINES,
        START_BESIDE,
        PROVE,
        APPROVE_FLIP,
        MAY_FLIP,
        FLIP_CANARY,
        WATCH_CANARY,
        END_CANARY,
        FLIP,
        DRAIN,
        APPROVE_RETIRE,
        CLOSE,
        RETIRE,
        VERIFY,
        DELETE_VHOST,
        SHOW_PLAN,
        WATCH,
        REPORT,
    ]
)

# Between the waves; a host's id has no dash. The number follows.
APPROVE_WAVE, AFTER_WAVE = "approve-wave-", "after-wave-"

# Tasks of the DAG for stranded stacks.
FIND, APPROVE, END, WAIT = "find", "approve", "end", "wait"

# Keys of XComs: when and where a task began, why it failed, what it would do in a real run, what a wait has seen.
BEGAN, ERROR, PLANNED, HISTORY = "began", "error", "planned", "history"
# How a canary went, of the task that ends it.
CANARY = "canary"
# How long the tasks of a run took, for the runs to come; of a run that goes back apart.
TIMINGS, TIMINGS_BACK = "timings", "timings_back"


def of_host(host: str, task: str) -> str:
    """
    Return the id of a host's own task in a rolling upgrade.

    :param host: the host's name, as the ids of tasks have it
    :param task: what it does there
    """
    return f"{host}.{task}"
