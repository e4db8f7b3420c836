"""What the function on AWS is told of daybreak.toml: everything that moving a migration takes, and no secret.

Servers are left out (their secrets say where they are) but for how their certificates are verified; the
authorities themselves travel in the package. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daybreak.config import InfraSettings, Peer
from daybreak.model import Side

# Where the package has them; ``entry.lambda_settings`` looks there.
_DIRECTORY = "ca"
_OF_AWS_ELSEWHERE = {"terraform", "watch", "controller", "tags", "secrets_version"}


@dataclass(frozen=True, slots=True)
class Published:
    """``settings`` in the form of daybreak.toml, ``tls`` as libpq's keywords for each side, ``peers`` as the keys of
    [source] and [target] that say how the *other server* connects there, and the files that go into the
    package, by their names there."""

    settings: Mapping[str, Any]
    tls: Mapping[str, Mapping[str, str]]
    peers: Mapping[str, Mapping[str, str | int]]
    authorities: Mapping[str, Path]


def published(settings: InfraSettings) -> Published:
    """What is told of ``settings``. Keys and certificates of clients are not: they are secrets."""
    told = settings.model_dump(mode="json", exclude_defaults=True, exclude={"source", "target", "state"})
    _leave_out(told.get("replication", {}), {"client_bin"})
    _leave_out(told.get("traffic", {}), {"pgbouncer"})
    _leave_out(told["aws"], _OF_AWS_ELSEWHERE)
    _leave_out(told["aws"].get("dms", {}), {"source_ca_file", "target_ca_file"})
    tls, authorities = {}, {}
    for side, (keywords, authority) in _verification(settings).items():
        if authority is not None:
            name = f"{side}.pem"
            keywords = {**keywords, "sslrootcert": name}
            authorities[f"{_DIRECTORY}/{name}"] = authority
        tls[str(side)] = keywords
    return Published(told, tls, _peers(settings), authorities)


def _leave_out(section: dict[str, Any], keys: set[str]) -> None:
    for key in keys:
        section.pop(key, None)


def _peers(settings: InfraSettings) -> dict[str, dict[str, str | int]]:
    """The function's own files are on neither server, so what the DSN of the source names is told by name. Where
    nothing says where the source's machine has Aurora's authority, that connection is not verified."""
    parameters = settings.source.parameters()
    source = {f"peer_{key}": parameters[key] for key in ("sslmode", "sslrootcert") if key in parameters}
    given = {side: getattr(settings, side).model_dump(include=set(Peer.model_fields)) for side in Side}
    told = {side: {key: value for key, value in keys.items() if value} for side, keys in given.items()}
    return {"source": {**source, **told[Side.SOURCE]}, "target": {"peer_sslmode": "require", **told[Side.TARGET]}}


def _verification(settings: InfraSettings) -> dict[Side, tuple[dict[str, str], Path | None]]:
    """For each side the keywords, and the file of the authority that is trusted."""
    authority = settings.aws.dms.target_ca_file
    return {
        Side.SOURCE: _of(settings.source.parameters()),
        Side.TARGET: ({"sslmode": "verify-full" if authority else "require"}, authority),
    }


def _of(parameters: Mapping[str, str]) -> tuple[dict[str, str], Path | None]:
    keywords = {key: parameters[key] for key in ("sslmode", "sslnegotiation") if key in parameters}
    root = parameters.get("sslrootcert", "")
    if root == "system":
        return {**keywords, "sslrootcert": root}, None
    return keywords, Path(root) if root else None
