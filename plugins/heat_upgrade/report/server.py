"""The report's page in Airflow's UI: for whoever may read the run's XComs there, and for nobody else."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Depends, FastAPI, Query, Response, status
from fastapi.responses import HTMLResponse, PlainTextResponse

from heat_upgrade import compat
from heat_upgrade.names import REPORT
from heat_upgrade.report.facts import Report
from heat_upgrade.report.render import markdown, page

NONE = "This run has no report. An upgrade's run writes one as its last task, also when it fails."
# Even if something got past the escaping, it could load and run nothing.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

app = FastAPI(title="Heat upgrade's reports", docs_url=None, redoc_url=None, openapi_url=None)


# Made each time from the task's facts: the files lie on the machine of the worker, which need not be this one.
@app.get("/report", dependencies=[Depends(compat.only_readers_of_xcoms())])
def show(
    dag_id: Annotated[str, Query()],
    run_id: Annotated[str, Query()],
    form: Annotated[Literal["html", "md"], Query(alias="format")] = "html",
) -> Response:
    """Return the report of a run."""
    if (facts := compat.xcom_in_server(dag_id, run_id, REPORT, REPORT)) is None:
        return PlainTextResponse(NONE, status_code=status.HTTP_404_NOT_FOUND, headers=HEADERS)
    report = Report.model_validate_json(facts)
    if form == "md":
        return PlainTextResponse(markdown(report), headers=HEADERS)
    return HTMLResponse(page(report), headers=HEADERS)
