"""Secrets that the configuration names by their ARN in AWS Secrets Manager."""

from __future__ import annotations

import json


def secret_value(arn: str) -> str:
    """The current value of secret ``arn``; of a JSON object (the form that RDS and DMS use) its ``password``.

    Raises ValueError, for pydantic to report beside the key, where it can't be read. Source: Secrets
    Manager API, GetSecretValue."""
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ModuleNotFoundError:
        raise ValueError("a Secrets Manager ARN needs `pip install 'daybreak[aws]'`") from None
    region = arn.split(":")[3] if arn.count(":") >= 6 else ""
    if not region:
        raise ValueError("not the ARN of a Secrets Manager secret")
    try:
        text = boto3.client("secretsmanager", region_name=region).get_secret_value(SecretId=arn)["SecretString"]
    except (BotoCoreError, ClientError) as error:
        raise ValueError(f"secret {arn} cannot be read: {error}") from None
    except KeyError:
        raise ValueError(f"secret {arn} is binary; a password must be text") from None
    try:
        found = json.loads(text)
    except ValueError:
        return text
    if not isinstance(found, dict):
        return text
    if not isinstance(found.get("password"), str):
        raise ValueError(f"secret {arn} has no key password")
    return str(found["password"])
