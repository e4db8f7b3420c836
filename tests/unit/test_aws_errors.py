"""AWS's errors as Daybreak's: what is tried again, what needs a person, and what that person is told."""

from __future__ import annotations

from typing import Any

import pytest
from botocore import exceptions

from daybreak.aws.errors import error_code, translated
from daybreak.errors import AdapterError, ConfigError, PermanentError, TransientError

_WRONG_KEY = "The request signature we calculated does not match the signature you provided."


def _answer(code: str, message: str = "text of AWS", status: int = 400) -> exceptions.ClientError:
    response: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return exceptions.ClientError(response, "DescribeDBClusters")


def _translated(error: Exception) -> AdapterError:
    with pytest.raises(AdapterError) as raised, translated("cluster c"):
        raise error
    assert raised.value.__cause__ is error
    assert raised.value.message.startswith("cluster c: ")
    assert raised.value.hint
    return raised.value


@pytest.mark.parametrize(
    "error",
    [
        _answer("Throttling"),
        _answer("ThrottlingException"),
        _answer("ProvisionedThroughputExceededException"),
        _answer("RequestLimitExceeded"),
        _answer("SlowDown", status=503),
        _answer("TooManyUpdates"),
        _answer("ConcurrentModificationException"),
        _answer("NobodyKnows", status=500),
        exceptions.EndpointConnectionError(endpoint_url="https://rds"),
        exceptions.ReadTimeoutError(endpoint_url="https://rds"),
        exceptions.ConnectTimeoutError(endpoint_url="https://rds"),
        exceptions.ConnectionClosedError(endpoint_url="https://rds"),
    ],
    ids=lambda error: error_code(error) or type(error).__name__,
)
def test_what_passes_by_itself_is_tried_again(error: Exception) -> None:
    assert isinstance(_translated(error), TransientError)


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (_answer("ExpiredToken"), "AWS_PROFILE"),
        (_answer("UnrecognizedClientException"), "AWS_PROFILE"),
        (_answer("AuthFailure"), "AWS_PROFILE"),
        (exceptions.NoCredentialsError(), "AWS_PROFILE"),
        (exceptions.ProfileNotFound(profile="p"), "AWS_PROFILE"),
        (exceptions.NoRegionError(), "[aws]"),
        (exceptions.SSLError(endpoint_url="https://rds", error=OSError("self-signed")), "AWS_CA_BUNDLE"),
        (_answer("DBClusterParameterGroupNotFound"), "infra deploy"),
        (_answer("ResourceNotFoundException"), "infra deploy"),
        (_answer("DBClusterQuotaExceededFault"), "quota"),
        (_answer("InvalidSignatureException", _WRONG_KEY), "AWS_PROFILE"),
        (_answer("SignatureDoesNotMatch", _WRONG_KEY), "AWS_PROFILE"),
        (_answer("InvalidParameterValue"), "Mend"),
    ],
)
def test_what_needs_a_person_says_what_to_do(error: Exception, hint: str) -> None:
    found = _translated(error)
    assert isinstance(found, PermanentError)
    assert hint in found.hint


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("SignatureDoesNotMatch", "Signature expired: 20260203T040506Z is now earlier than 20260203T041006Z"),
        (
            "InvalidSignatureException",
            "Signature not yet current: 20260203T050506Z is still later than 20260203T041006Z",
        ),
        ("InvalidSignatureException", "Signature expired: 20260203T040506Z is now earlier than 20260203T041006Z"),
        ("RequestTimeTooSkewed", "The difference between the request time and the current time is too large."),
        ("RequestExpired", "Request has expired."),
    ],
)
def test_a_clock_that_is_wrong_is_named(code: str, text: str) -> None:
    found = _translated(_answer(code, text, 403))
    assert isinstance(found, PermanentError)
    assert "clock" in found.message
    assert text in found.message
    assert "timedatectl" in found.hint


def test_what_denies_explicitly_is_named() -> None:
    text = (
        "User: arn:aws:iam::1:user/eve is not authorized to perform: ssm:PutParameter on resource: arn:aws:ssm:x"
        " with an explicit deny in a service control policy"
    )
    assert _translated(_answer("AccessDeniedException", text)).hint == "Lift the deny in a service control policy."


def test_a_key_that_may_not_be_used_is_thought_of() -> None:
    found = _translated(_answer("AccessDeniedException", "Access to KMS is not allowed"))
    assert "KMS key" in found.hint


def test_the_text_and_the_code_of_aws_are_kept() -> None:
    found = _translated(_answer("InvalidParameterValue", "the port is taken"))
    assert found.message == "cluster c: the port is taken (InvalidParameterValue)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "User: arn:aws:iam::1:user/eve is not authorized to perform: rds:DeleteDBCluster on resource: arn:aws:rds:x"
            " because no identity-based policy allows the rds:DeleteDBCluster action",
            ("rds:DeleteDBCluster on arn:aws:rds:x", "arn:aws:iam::1:user/eve"),
        ),
        ("arn:aws:iam::1:user/eve is not authorized to perform: dms:Start", ("dms:Start", "arn:aws:iam::1:user/eve")),
        ("You can't.", ("DescribeDBClusters", "You can't.")),
    ],
)
def test_a_refusal_names_action_resource_and_identity(text: str, expected: tuple[str, ...]) -> None:
    found = _translated(_answer("AccessDenied", text, 403))
    assert isinstance(found, PermanentError)
    assert all(part in found.message for part in expected)
    assert expected[0] in found.hint


def test_other_errors_are_left_alone() -> None:
    with pytest.raises(ConfigError), translated("x"):
        raise ConfigError("mine")
    with pytest.raises(KeyError), translated("x"):
        raise KeyError("bug")


def test_only_answers_of_a_service_have_a_code() -> None:
    assert error_code(_answer("Throttling")) == "Throttling"
    assert error_code(exceptions.NoCredentialsError()) == ""
