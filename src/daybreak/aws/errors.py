"""AWS's errors in Daybreak's own: what is worth trying again, and what needs a person, with its fix."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from daybreak.errors import AdapterError, DaybreakError, PermanentError, TransientError

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError

# Services spell throttling in many ways (botocore.retries.standard, and "Common errors" in the API references).
_TRANSIENT = re.compile(
    "Throttl|TooManyRequests|ThroughputExceeded|RequestLimitExceeded|BandwidthLimitExceeded|SlowDown|RequestTimeout"
    "|PriorRequestNotComplete|TransactionInProgress|TooManyUpdates|ConcurrentModification|ServiceUnavailable"
    "|InternalFailure|InternalServerError"
)
_SERVER_ERROR = 500
_REFUSED = re.compile("AccessDenied|UnauthorizedOperation|AuthorizationError")
_UNKNOWN = re.compile(
    "ExpiredToken|InvalidClientTokenId|UnrecognizedClient|SignatureDoesNotMatch|InvalidSignature|AuthFailure"
    "|InvalidAccessKeyId|IncompleteSignature|MissingAuthenticationToken"
)
# The same codes as of a wrong key, and only the text tells (IAM user guide, "Troubleshoot requests").
_LATE = re.compile("RequestTimeTooSkewed|RequestExpired|Signature expired|Signature not yet current")
_SIGN_IN = "Sign in (`aws sso login`), or set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
_SET_CLOCK = "Set the clock (`timedatectl set-ntp true`): AWS takes what is dated within five minutes of its own time."
# IAM user guide, "Troubleshoot access denied error messages".
_DENIED = re.compile(
    r"(?:User: )?(?P<who>\S+) is not authorized to perform: (?P<action>[\w:*]+)(?: on resource: (?P<what>\S+))?"
    r"(?:.* with an explicit deny in (?P<deny>an? [\w -]+))?"
)


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn botocore's errors into TransientError or PermanentError that begin with ``where``.

    Transient is what AWS throttled, what it failed at itself (HTTP 5xx) and what broke on the way. A refusal
    names the action, the resource and whom to give it to. Everything else needs a person."""
    try:
        yield
    except DaybreakError:
        raise
    except Exception as error:
        # boto3 is optional: where it is missing, no error of its can arrive here.
        try:
            from botocore.exceptions import BotoCoreError, ClientError
        except ModuleNotFoundError:
            raise error from None
        if isinstance(error, ClientError):
            raise _of_service(where, error) from error
        if isinstance(error, BotoCoreError):
            raise _of_client(where, error) from error
        raise


def error_code(error: BaseException) -> str:
    """AWS's code (``DBClusterNotFoundFault``) of an error that a service answered with; empty for others."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _of_service(where: str, error: ClientError) -> AdapterError:
    code = error_code(error)
    text = error.response.get("Error", {}).get("Message") or "no message"
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if _TRANSIENT.search(code) or status >= _SERVER_ERROR:
        return TransientError(f"{where}: {text} ({code})", "AWS is busy; try again.")
    if _LATE.search(f"{code} {text}"):
        return PermanentError(f"{where}: this machine's clock is not AWS's: {text} ({code})", _SET_CLOCK)
    if _UNKNOWN.search(code):
        return PermanentError(f"{where}: AWS does not accept the credentials: {text} ({code})", _SIGN_IN)
    if _REFUSED.search(code):
        return _refusal(where, error.operation_name, text)
    return PermanentError(f"{where}: {text} ({code})", _hint(code))


def _refusal(where: str, operation: str, text: str) -> PermanentError:
    found = _DENIED.search(text)
    if found is None:
        key = " and the use of its KMS key" if "KMS" in text else ""
        return PermanentError(
            f"{where}: AWS refuses {operation}: {text}", f"Allow {operation}{key} in your IAM policy."
        )
    who, action, what = found["who"], found["action"], (found["what"] or "").rstrip(".")
    on = f" on {what}" if what else ""
    fix = f"Lift the deny in {found['deny']}." if found["deny"] else f"Allow {action}{on} in that identity's policy."
    return PermanentError(f"{where}: AWS refuses {action}{on} to {who}.", fix)


def _hint(code: str) -> str:
    if "NotFound" in code or "NoSuch" in code:
        return "Check aws.region, and that `daybreak infra deploy` has made it in this account."
    if "Quota" in code or "LimitExceeded" in code:
        return "Raise that quota (AWS console, Service Quotas), or delete what is no longer used."
    return "Mend what AWS names, then run the same command again."


def _of_client(where: str, error: BotoCoreError) -> AdapterError:
    """What botocore could not send or receive. By class, because its texts vary."""
    from botocore import exceptions

    text = str(error).rstrip(".")
    if isinstance(error, exceptions.SSLError):
        return PermanentError(f"{where}: {text}.", "Check AWS_CA_BUNDLE, and who answers in AWS's place.")
    if isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError):
        return TransientError(f"{where}: {text}.", "Check aws.region and the way to AWS from this machine.")
    if isinstance(error, exceptions.NoRegionError | exceptions.InvalidRegionError | exceptions.ParamValidationError):
        return PermanentError(f"{where}: {text}.", "Check the section [aws].")
    return PermanentError(f"{where}: {text}.", _SIGN_IN)
