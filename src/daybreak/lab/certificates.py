"""A throwaway certificate authority for lab servers, so that ``sslmode=verify-full`` can be tried.
Needs the ``trustme`` package, which only tests install."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import trustme


class Authority:
    """One certificate authority, shared by both servers of a pair: a multi-host client has one
    ``sslrootcert`` for all its hosts."""

    def __init__(self) -> None:
        import trustme

        self._authority: trustme.CA = trustme.CA()

    def issue(self, directory: Path, uid: int, gid: int) -> Path:
        """Write ``ca.pem``, ``server.crt`` and ``server.key`` for localhost and 127.0.0.1.

        Returns the path of ``ca.pem``. The key is readable by ``uid`` alone, as the server demands
        (PostgreSQL docs, "Secure TCP/IP Connections with SSL")."""
        certificate = self._authority.issue_cert("localhost", "127.0.0.1")
        self._authority.cert_pem.write_to_path(directory / "ca.pem")
        for number, blob in enumerate(certificate.cert_chain_pems):
            blob.write_to_path(directory / "server.crt", append=number > 0)
        key = directory / "server.key"
        os.close(os.open(key, os.O_CREAT | os.O_WRONLY, 0o600))
        certificate.private_key_pem.write_to_path(key)
        for name in ("ca.pem", "server.crt", "server.key"):
            os.chown(directory / name, uid, gid)
        return directory / "ca.pem"
