"""What ingest tells of as alerts: readings that belong to nobody yet, and alarms that devices raise themselves."""

from alerts.cases.casebook import Casebook
from alerts.cases.cases import Subject
from alerts.cases.lifecycle import Report, Trigger
from alerts.cases.subjects import site_subject
from alerts.rules.monitor_alarms import AlarmBody, alarm_face, alarm_severity, alarm_text, alarm_values
from alerts.rules.unclaimed import (
    OtherPatientBody,
    UnclaimedBody,
    other_patient_rule,
    other_patient_text,
    unclaimed_quality,
    unclaimed_rule,
    unclaimed_severity,
    unclaimed_text,
    unclaimed_value,
)
from vitals.records import AlertEvent


def take_notice(
    book: Casebook, body: AlarmBody | OtherPatientBody | UnclaimedBody, at_ns: int, told: int
) -> list[AlertEvent]:
    """Move the alert of ``body``; ``told`` numbers alerts of the site. Raises ``InvalidRequest`` for no vital.

    An alarm of a monitor is an alert beside ours on the same vital sign, in the same incident.
    """
    subject, report = alarm_subject(body) if isinstance(body, AlarmBody) else unclaimed_subject(body, told)
    key = f"{subject.patient}|{subject.face.name}"
    if isinstance(body, AlarmBody) and body.step == "ends":
        return book.move(key, Trigger.ENDS, at_ns, Report(text="the monitor says that its alarm is over"))
    if isinstance(body, AlarmBody) and body.step == "late":
        late = report._replace(text=f"{report.text}: it came too late to page")
        return book.review(subject, at_ns, late)
    return book.begin(key, subject, Trigger.HOLDS, at_ns, report)


def unclaimed_subject(body: UnclaimedBody | OtherPatientBody, told: int) -> tuple[Subject, Report]:
    """Readings that are nobody's yet; ``told`` numbers alerts of the site. Raises ``InvalidRequest`` for no vital."""
    identity = (-1, 0, body.received_ns, told)
    if isinstance(body, OtherPatientBody):
        rule, title = other_patient_rule(body.device), "A device names another patient than its wearer"
        report = Report(text=other_patient_text(body))
    else:
        rule, title = unclaimed_rule(body.device), "An extreme reading is nobody's yet"
        report = Report((unclaimed_value(body),), unclaimed_quality(body), unclaimed_text(body))
    return site_subject(rule, title, identity, unclaimed_severity(body), technical=False), report


def alarm_subject(body: AlarmBody) -> tuple[Subject, Report]:
    """An alarm of a monitor that began, goes on, or came too late. Raises ``InvalidRequest``."""
    subject = Subject(
        patient=body.patient, face=alarm_face(body), severity=alarm_severity(body), spot=False, limit={},
        identity=(body.message, body.vital, body.time_ns, 0), resolves="the monitor says that it is over",
    )  # fmt: skip
    return subject, Report(alarm_values(body), (), alarm_text(body))
