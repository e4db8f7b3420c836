"""What the function can be asked: a call with an action, or an event that makes it look. Pure.

A wrong action or weight is an error that the caller sees; an event about something else is none, it is
only not ours."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, get_args

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from daybreak.errors import Refused
from daybreak.model import Verb

_Actions = Literal["status", "check", "poll", "verify", "shift", "cutover", "rollback", "abort", "finish", "postpone"]
ACTIONS: tuple[str, ...] = get_args(_Actions)
# As older recipes for such functions call them.
_OTHER_NAMES = {"gradual_cutover": "shift", "manual_cutover": "cutover"}
_TASK_EVENT, _ALARM_EVENT, _SCHEDULE_EVENT = (
    "DMS Replication Task State Change",
    "CloudWatch Alarm State Change",
    "Scheduled Event",
)

Action = Annotated[
    _Actions,
    BeforeValidator(lambda value: _OTHER_NAMES.get(value, value) if isinstance(value, str) else value),
]


class Call(BaseModel):
    """A request of a person or a tool.

    ``percent`` only with shift (left out: the next share of the schedule), ``until`` only with postpone (left
    out: not any more). ``request`` names the request: sent twice, it is carried out once."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    action: Action
    percent: int | None = Field(None, ge=0, le=100, strict=True, validation_alias=AliasChoices("percent", "weight"))
    until: datetime | None = None
    request: str = Field("", max_length=200)

    @model_validator(mode="after")
    def _fitting(self) -> Call:
        if self.percent is not None and self.action != "shift":
            raise ValueError("percent belongs to the action shift")
        if self.until is not None and self.action != "postpone":
            raise ValueError("until belongs to the action postpone")
        if self.until is not None and self.until.tzinfo is None:
            raise ValueError("until needs a time zone, for example 2026-05-01T06:00:00Z")
        return self

    @property
    def verb(self) -> Verb | None:
        """What it asks the controller for; None for the others."""
        return Verb(self.action) if self.action in set(Verb) else None


class _Detail(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    event_type: str = Field("", validation_alias=AliasChoices("eventType", "eventName"))
    message: str = Field("", validation_alias=AliasChoices("detailMessage", "message"))


class Event(BaseModel):
    """An event of EventBridge (user guide, "Events"; DMS user guide, "Working with EventBridge")."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    detail_type: str = Field(validation_alias="detail-type")
    source: str
    resources: tuple[str, ...] = ()
    detail: _Detail = _Detail()

    def why(self, task_arn: str) -> str:
        """Why to look now, in a few words; empty where the event is about something else."""
        if self.detail_type == _TASK_EVENT:
            said = self.detail.message or self.detail.event_type
            return f"DMS says: {said}" if task_arn and task_arn in self.resources else ""
        if self.detail_type == _ALARM_EVENT:
            return f"an alarm changed: {', '.join(self.resources)}"
        return "the schedule" if self.detail_type == _SCHEDULE_EVENT else ""


def parse(event: object) -> Call | Event:
    """The call or event in ``event``; raises Refused naming what is wrong with it, never its values."""
    kind: type[Call | Event] = Event if isinstance(event, dict) and "detail-type" in event else Call
    try:
        return kind.model_validate(event)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        wrong = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'the request'}: {one['msg']}" for one in found)
        raise Refused(f"This can't be asked: {wrong}.", f"Actions are {', '.join(ACTIONS)}.") from None
