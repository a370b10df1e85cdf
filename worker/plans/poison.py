"""Say what to do about a plan that cannot be made because of one of its records. No SQL."""

from producer.contract.plan_requests import PlanPurpose, PlanRequest


def way_out(request: PlanRequest) -> str:
    """Return what the submitter does about a record that fails or kills workers, in a sentence.

    Without a plan, the record alone would become a dead letter; but a dry run must write nothing,
    and a snapshot drops what it does not name.
    """
    if request.purpose is PlanPurpose.REPORT:
        return (
            "Ask the operator for the worker's log, correct the record, and plan the file again"
            " under another batch id."
        )
    if request.snapshot:
        return (
            "Ask the operator for the worker's log, correct the record, and submit the snapshot"
            " again under another batch id. Do not leave the record out: the snapshot would drop"
            " what it names."
        )
    return (
        "Submit the file without a plan, under another batch id: then only that record is refused,"
        " and becomes a dead letter. Or ask the operator for the worker's log, and correct the"
        " record."
    )
