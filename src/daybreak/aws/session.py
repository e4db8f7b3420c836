"""How Daybreak reaches AWS: credentials from boto3's usual chain, bounded waiting, retries by botocore."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daybreak.aws.errors import translated
from daybreak.errors import ConfigError

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.config import Config

# botocore's own defaults wait a minute for a connection. The standard mode tries again what was throttled
# or broke on the way (boto3 documentation, "Retries").
_CONNECT_SECONDS, _READ_SECONDS, _ATTEMPTS = 5, 30, 5


def open_session(region: str) -> Session:
    """A boto3 session in ``region`` (empty: the environment's) whose clients wait and retry as said above.

    Raises ConfigError where boto3 is not installed, PermanentError where the profile in the environment does
    not exist. Credentials are looked for at the first call only."""
    try:
        from boto3.session import Session
        from botocore.config import Config
        from botocore.session import get_session
    except ModuleNotFoundError:
        raise ConfigError("This needs boto3.", "Run `pip install 'daybreak[aws]'`.") from None
    core = get_session()
    core.set_default_client_config(
        Config(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        )
    )
    with translated("AWS credentials"):
        return Session(botocore_session=core, region_name=region or None)


def impatient() -> Config:
    """For a client whose calls are worth one try and two seconds."""
    from botocore.config import Config

    return Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1})
