"""What checks of the account say: a blocker, and the commonest one, a thing that is named and not there."""

from __future__ import annotations

from daybreak.aws.errors import error_code
from daybreak.config import InfraSettings
from daybreak.errors import Finding


def blocker(id_: str, object_: str, message: str, fix: str) -> Finding:
    return Finding(id_, "blocker", object_, message, fix)


def missing(id_: str, key: str, named: str, settings: InfraSettings) -> Finding:
    message = f"{named} is not (all) in {settings.aws.region} of this account."
    return blocker(id_, key, message, f"Mend {key}, aws.region or the credentials.")


def raise_unless_missing(error: Exception) -> None:
    """Raise every error of EC2 but those for an id that it does not know."""
    if "NotFound" not in error_code(error) and "Malformed" not in error_code(error):
        raise error
