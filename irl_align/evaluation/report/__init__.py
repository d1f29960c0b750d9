"""`write_report(run_dir)`: one HTML page that shows a run to somebody who was not there.

`collect` reads the run directory, `measures` finds each quantity, `svg` draws, `lineage` tells
which files made which, `page` puts them together.
"""

from irl_align.evaluation.report.collect import RunView, as_json, collect_run, list_runs
from irl_align.evaluation.report.page import render_page, write_report

__all__ = ["RunView", "as_json", "collect_run", "list_runs", "render_page", "write_report"]
