"""The controller's package: a zip of the installed Daybreak and what it needs, at exactly the versions
installed here.

The same content gives the same bytes: entries are sorted, times and modes fixed, and nothing that only
installers or Python's cache leave behind is in it. ``daybreak.infra`` and ``daybreak.lab`` stay out. Where the
function runs on the Python and processor of this machine, the installed files are taken; otherwise uv fetches
the wheels for its platform. (Another build of zlib may compress differently; then the bytes differ once.)"""

from __future__ import annotations

import io
import logging
import platform
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from uv import find_uv_bin

import daybreak
from daybreak.config.aws import Controller
from daybreak.errors import ConfigError, PermanentError

_LOG = logging.getLogger(__name__)

# Lambda takes no larger zip directly (Lambda developer guide, "Lambda quotas"), bytes.
_LIMIT = 50 * 2**20
_LEFT_OUT = ("infra", "lab")
# What pip, uv and Python write about an installation.
_NOISE = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json", ".lock"})
# The oldest time that a zip can hold.
_TIME = (1980, 1, 1, 0, 0, 0)
_MODE = 0o100644 << 16
_UNIX = 3
_MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}
# glibc of the runtime's Linux: python3.11 runs on Amazon Linux 2, later ones on Amazon Linux 2023 (Lambda
# developer guide, "Lambda runtimes"). uv knows no platform between 2.17 and 2.28.
_GLIBC_OF_AL2, _GLIBC_OF_AL2023 = 17, 34


@dataclass(frozen=True, slots=True)
class Package:
    """A built package: the zip and its size in bytes."""

    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Target:
    """Where the package runs: ``python`` as ``3.13``, ``machine`` as the kernel names it."""

    python: str
    machine: str
    glibc: int

    @classmethod
    def of(cls, settings: Controller) -> Target:
        """The target of ``settings``."""
        python = settings.runtime.removeprefix("python")
        glibc = _GLIBC_OF_AL2 if python == "3.11" else _GLIBC_OF_AL2023
        return cls(python, _MACHINES[settings.architecture], glibc)

    @property
    def is_here(self) -> bool:
        """Whether this Python on this machine is one like it."""
        here = f"{sys.version_info.major}.{sys.version_info.minor}"
        return sys.platform == "linux" and here == self.python and platform.machine() == self.machine

    def markers(self) -> dict[str, str]:
        """The environment that requirements are judged in (packaging specification, "Dependency specifiers")."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }


def build_package(settings: Controller, path: Path, files: Mapping[str, Path]) -> Package:
    """Write the package for ``settings`` to ``path``; a file with the same bytes is left as it is.

    ``files`` are added under the names given. Raises ConfigError where one can't be read, a dependency is not
    installed here or the package is too large for Lambda, PermanentError with uv's words where it cannot
    fetch a wheel."""
    target = Target.of(settings)
    libraries = needed(target)
    copied = target.is_here and all(runs_on(one, target) for one in libraries)
    content = dict(own_files())
    content.update(installed_files(libraries) if copied else fetched_files(libraries, target))
    content.update(_read(files))
    data = zipped(content)
    if len(data) > _LIMIT:
        raise ConfigError(
            f"The package has {len(data) / 2**20:.0f} MB; Lambda takes {_LIMIT // 2**20}.",
            "Install fewer optional dependencies beside Daybreak's own.",
        )
    if not path.exists() or path.read_bytes() != data:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    _LOG.info("The controller's package has %.1f MB (%d files).", len(data) / 2**20, len(content))
    return Package(path, len(data))


def _read(files: Mapping[str, Path]) -> Iterator[tuple[str, bytes]]:
    for name, path in files.items():
        try:
            yield name, path.expanduser().read_bytes()
        except OSError as error:
            raise ConfigError(f"{path} can't be read: {error.strerror}.", "Mend its name in daybreak.toml.") from error


def needed(target: Target) -> tuple[Distribution, ...]:
    """What Daybreak with its extra ``aws`` needs on ``target``, itself left out, by name."""
    found: dict[str, Distribution] = {}
    seen = set()
    todo = [Requirement("daybreak[aws]")]
    while todo:
        requirement = todo.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        one = _installed(requirement.name)
        found[key[0]] = one
        todo += _requirements(one, requirement.extras, target)
    del found["daybreak"]
    return tuple(found[name] for name in sorted(found))


def _requirements(one: Distribution, extras: set[str], target: Target) -> Iterator[Requirement]:
    for text in one.requires or ():
        requirement = Requirement(text)
        environments = [{**target.markers(), "extra": extra} for extra in ("", *extras)]
        if requirement.marker is None or any(requirement.marker.evaluate(each) for each in environments):
            yield requirement


def _installed(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError:
        raise ConfigError(
            f"The controller needs {name}, which is not installed here.", "Run `pip install 'daybreak[infra]'`."
        ) from None


def own_files() -> Iterator[tuple[str, bytes]]:
    """Daybreak's own files, wherever it runs from, without what the function has no use for."""
    root = Path(daybreak.__file__).parent
    for file in root.rglob("*"):
        path = file.relative_to(root)
        if file.is_file() and path.parts[0] not in _LEFT_OUT and _wanted(PurePosixPath(path)):
            yield f"daybreak/{path.as_posix()}", file.read_bytes()


def installed_files(libraries: Sequence[Distribution]) -> Iterator[tuple[str, bytes]]:
    """The files of ``libraries`` as they are installed here; scripts outside the packages' directory are not."""
    for one in libraries:
        for file in one.files or ():
            if file.parts[0] != ".." and _wanted(PurePosixPath(file)):
                yield file.as_posix(), Path(str(one.locate_file(file))).read_bytes()


def fetched_files(libraries: Sequence[Distribution], target: Target) -> Iterator[tuple[str, bytes]]:
    """The files of the same versions of ``libraries``, from wheels for ``target``. Indexes and credentials
    are those that uv is configured with."""
    with tempfile.TemporaryDirectory(prefix="daybreak-package-") as scratch:
        root = Path(scratch, "content")
        wanted = Path(scratch, "requirements.txt")
        wanted.write_text("".join(f"{one.name}=={one.version}\n" for one in libraries))
        _run_uv(
            "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--link-mode", "copy",
            "--python", sys.executable, "--python-version", target.python,
            "--python-platform", f"{target.machine}-manylinux_2_{target.glibc}",
            "--target", str(root), "--requirement", str(wanted),
        )  # fmt: skip
        for file in root.rglob("*"):
            path = PurePosixPath(file.relative_to(root))
            if file.is_file() and path.parts[0] != "bin" and _wanted(path):
                yield path.as_posix(), file.read_bytes()


def _run_uv(*arguments: str) -> None:
    result = subprocess.run([find_uv_bin(), *arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        raise PermanentError(
            f"uv cannot fetch the controller's dependencies:\n{result.stderr.strip()}",
            "Check the way to the package index, or choose the aws.controller.runtime and architecture of this"
            " machine: then the installed files are used.",
        )


def runs_on(one: Distribution, target: Target) -> bool:
    """Whether the wheel that ``one`` was installed from runs on ``target``'s Linux (PEP 600)."""
    tags = re.findall(r"^Tag: \S+-(\S+)$", one.read_text("WHEEL") or "", re.MULTILINE)
    return any(tag == "any" or _glibc(tag, target) <= target.glibc for tag in tags)


def _glibc(tag: str, target: Target) -> int:
    """The minor version of glibc that a wheel with ``tag`` needs; more than any for other platforms."""
    old = {"manylinux1": 5, "manylinux2010": 12, "manylinux2014": 17}
    kind = tag.removesuffix(f"_{target.machine}")
    found = re.fullmatch(r"manylinux_2_(\d+)", kind)
    if kind == tag:
        return sys.maxsize
    return int(found[1]) if found else old.get(kind, sys.maxsize)


def _wanted(path: PurePosixPath) -> bool:
    return path.suffix != ".pyc" and path.name not in _NOISE and "__pycache__" not in path.parts


def zipped(content: Mapping[str, bytes]) -> bytes:
    """A zip of ``content`` that depends on nothing else."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name in sorted(content):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system = _UNIX
            entry.external_attr = _MODE
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content[name], compresslevel=6)
    return memory.getvalue()
