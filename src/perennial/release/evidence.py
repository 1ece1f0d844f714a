"""What an environment has shown of a version, for the text of a promotion."""

import os

from perennial.errors import UserError
from perennial.release.desired import Deployed
from perennial.release.prometheus import query

SPAN = "7d"
ASKED = {  # OF is the environment
    "rows scored": f"sum(increase(model_rows_total{{OF}}[{SPAN}]))",
    "requests answered": f"sum(increase(model_requests_total{{OF}}[{SPAN}]))",
    "of these with 5xx": f"sum(increase(model_requests_total{{code=~'5..',OF}}[{SPAN}]))",
    "seconds for 99 %": f"histogram_quantile(0.99, sum by (le) (increase(model_request_seconds_bucket{{OF}}[{SPAN}])))",
    "rows answered but not logged": f"sum(increase(model_log_lost_rows_total{{OF}}[{SPAN}]))",
    "labels received": f"sum(increase(model_feedback_total{{OF}}[{SPAN}]))",
    "loss of a labelled answer": f"sum(increase(model_label_loss_total{{OF}}[{SPAN}]))"
    f" / sum(increase(model_labels_total{{OF}}[{SPAN}]))",
    "the same on the hold-out": "max(model_ref_loss_mean{OF})",
    "worth of 1,000 labelled answers": f"1000 * sum(sum by (predicted, actual) (increase(model_outcomes_total{{OF}}"
    f"[{SPAN}])) * on (predicted, actual) max by (predicted, actual) (model_outcome_value{{OF}}))"
    f" / sum(increase(model_outcomes_total{{OF}}[{SPAN}]))",
    "largest shift of a feature beyond chance (PSI)": "max(feature:psi_excess:w{OF})",
}


def evidence(environment: str, deployed: Deployed) -> str:
    """A table of traffic, errors, speed and drift of the last days, or why there is none."""
    if not os.environ.get("PROMETHEUS_URL"):
        return "No figures: set PROMETHEUS_URL to the Prometheus that watches it."
    of = f'namespace="perennial-{environment}"'
    try:
        rows = [f"| {name} | {_figure(text.replace('OF', of))} |" for name, text in ASKED.items()]
    except UserError as error:
        return f"No figures: {str(error).splitlines()[0]}"
    return "\n".join([f"| {deployed.version}, last {SPAN} | |", "|---|--:|", *rows])


def _figure(expression: str) -> str:
    found = query(expression)
    value = float(found[0]["value"][1]) if found else float("nan")
    return f"{value:,.4g}" if value == value else "none seen"
