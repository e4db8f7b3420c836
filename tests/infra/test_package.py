"""The package is the same whenever its content is, holds nothing it has no use for, and really runs."""

from __future__ import annotations

import io
import json
import os
import platform
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from daybreak.config.aws import Controller
from daybreak.errors import ConfigError, PermanentError
from daybreak.infra import package
from daybreak.infra.package import Package, Target, build_package, fetched_files, needed, runs_on, zipped

_HERE = Controller.model_validate(
    {
        "runtime": f"python{sys.version_info.major}.{sys.version_info.minor}",
        "architecture": {"aarch64": "arm64"}.get(platform.machine(), platform.machine()),
    }
)
_ARM = Target("3.13", "aarch64", 34)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """The package for this machine."""
    return build_package(_HERE, tmp_path_factory.mktemp("package") / "controller.zip")


@pytest.fixture(scope="module")
def unpacked(built: Package, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its content, as Lambda has it on the path."""
    directory = tmp_path_factory.mktemp("content")
    with zipfile.ZipFile(built.path) as archive:
        archive.extractall(directory)
    return directory


@pytest.fixture(scope="module")
def parameter_store() -> Iterator[dict[str, str]]:
    """An emulated SSM with a published state; gives the environment that leads there."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "123456789012",
        "AWS_SECRET_ACCESS_KEY": "emulated",
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "NO_PROXY": host,
        "no_proxy": host,
    }
    client = boto3.client(
        "ssm",
        region_name="eu-central-1",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id="123456789012",
        aws_secret_access_key="emulated",
    )
    client.put_parameter(Name="/migration/test/state", Type="SecureString", Value='{"phase": "streaming"}')
    client.put_parameter(Name="/migration/broken/state", Type="SecureString", Value="by hand")
    yield environment
    server.stop()


def _invoke(
    content: Path, environment: dict[str, str], event: object, parameter: str = "/migration/test/state"
) -> subprocess.CompletedProcess[str]:
    """Call the handler as Lambda does, in a Python that knows the standard library and ``content`` only."""
    script = f"""
        import json, sys
        sys.path.insert(0, {str(content)!r})
        from daybreak.entry.lambda_handler import handle
        print(json.dumps(handle({event!r}, None)))
    """
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", textwrap.dedent(script)],
        env={"PATH": os.environ["PATH"], "STATE_PARAMETER": parameter, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_same_content_gives_same_bytes(built: Package) -> None:
    again = build_package(_HERE, built.path.with_name("again.zip"))
    assert again.path.read_bytes() == built.path.read_bytes()
    assert again.size == built.size == built.path.stat().st_size


def test_an_unchanged_package_is_not_written_again(built: Package) -> None:
    before = built.path.stat()
    build_package(_HERE, built.path)
    assert built.path.stat().st_mtime_ns == before.st_mtime_ns


def test_zip_depends_on_nothing_but_its_content() -> None:
    content = {"b/two.py": b"2", "a.py": b"1"}
    assert zipped(content) == zipped(dict(reversed(content.items())))
    assert zipped(content) != zipped({**content, "a.py": b"one"})
    with zipfile.ZipFile(io.BytesIO(zipped(content))) as archive:
        entries = archive.infolist()
    assert [entry.filename for entry in entries] == ["a.py", "b/two.py"]
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644}


def test_package_holds_what_the_function_needs_and_no_more(built: Package) -> None:
    with zipfile.ZipFile(built.path) as archive:
        names = archive.namelist()
    assert {"daybreak/entry/lambda_handler.py", "boto3/__init__.py", "pydantic/__init__.py"} <= set(names)
    assert any(name.startswith("psycopg_binary") for name in names)
    for unwanted in ("daybreak/infra/", "daybreak/lab/", "cdktn", "celerp", "moto/", "uv/", "bin/", ".."):
        assert not [name for name in names if name.startswith(unwanted)], unwanted
    for noise in (".pyc", "/RECORD", "/INSTALLER", "/direct_url.json", "/REQUESTED", ".pth", ".env", ".toml"):
        assert not [name for name in names if name.endswith(noise)], noise
    assert not [name for name in names if "__pycache__" in name]


def test_package_holds_nothing_of_this_machine(built: Package) -> None:
    root = str(Path(package.__file__).parents[3]).encode()
    with zipfile.ZipFile(built.path) as archive:
        ours = [name for name in archive.namelist() if name.startswith("daybreak/")]
        assert not [name for name in ours if root in archive.read(name)]


def test_packaged_handler_returns_the_published_state(unpacked: Path, parameter_store: dict[str, str]) -> None:
    result = _invoke(unpacked, parameter_store, {"action": "status"})
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {"phase": "streaming"}
    (line,) = result.stderr.splitlines()
    assert json.loads(line)["message"] == "status was asked for"


@pytest.mark.parametrize(
    "event",
    [
        {"action": "cutover"},
        {"action": "status", "force": True},
        {"source": "aws.dms", "detail-type": "DMS Replication Task State Change", "detail": {}},
        {},
        None,
    ],
)
def test_everything_else_fails_for_the_caller(unpacked: Path, parameter_store: dict[str, str], event: object) -> None:
    result = _invoke(unpacked, parameter_store, event)
    assert result.returncode != 0
    assert "not available in this version" in result.stderr
    assert "command line" in result.stderr
    assert json.loads(result.stderr.splitlines()[0])["level"] == "ERROR"


@pytest.mark.parametrize(
    ("parameter", "message"),
    [("/migration/absent/state", "ParameterNotFound"), ("/migration/broken/state", "holds no JSON object")],
)
def test_an_unreadable_state_fails_for_the_caller(
    unpacked: Path, parameter_store: dict[str, str], parameter: str, message: str
) -> None:
    result = _invoke(unpacked, parameter_store, {"action": "status"}, parameter)
    assert result.returncode != 0
    assert message in result.stderr


def test_another_platform_gets_its_own_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for platform_tag in ("manylinux_2_17_aarch64", "manylinux_2_17_x86_64"):
        _wheel(tmp_path, f"cp313-cp313-{platform_tag}", platform_tag.encode())
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    files = dict(fetched_files([_installed(tmp_path)], _ARM))
    assert files["sample/native.so"] == b"manylinux_2_17_aarch64"
    assert "sample-1.0.dist-info/METADATA" in files
    assert not [name for name in files if name.endswith(("RECORD", "INSTALLER", ".lock"))]


def test_a_wheel_that_cannot_be_had_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _wheel(tmp_path, "cp313-cp313-manylinux_2_17_x86_64", b"")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    with pytest.raises(PermanentError, match="sample"):
        list(fetched_files([_installed(tmp_path)], _ARM))


@pytest.mark.parametrize(
    ("tags", "runs"),
    [
        (("py3-none-any",), True),
        (("cp313-cp313-manylinux_2_17_aarch64", "cp313-cp313-manylinux2014_aarch64"), True),
        (("cp313-cp313-manylinux_2_34_aarch64",), True),
        (("cp313-cp313-manylinux_2_39_aarch64",), False),
        (("cp313-cp313-manylinux_2_17_x86_64",), False),
        (("cp313-cp313-musllinux_1_2_aarch64",), False),
        (("cp313-cp313-linux_aarch64",), False),
        ((), False),
    ],
)
def test_installed_files_are_taken_only_where_they_run(tmp_path: Path, tags: tuple[str, ...], runs: bool) -> None:
    assert runs_on(_installed(tmp_path, tags), _ARM) is runs


def test_glibc_is_that_of_the_runtime() -> None:
    assert Target.of(Controller(runtime="python3.11", architecture="arm64")) == Target("3.11", "aarch64", 17)
    assert Target.of(Controller(runtime="python3.14", architecture="x86_64")) == Target("3.14", "x86_64", 34)


def test_dependencies_are_those_of_daybreak_with_aws() -> None:
    names = {one.name.lower().replace("_", "-") for one in needed(Target.of(_HERE))}
    assert {"boto3", "botocore", "psycopg", "psycopg-binary", "pydantic", "pydantic-core"} <= names
    assert not {"daybreak", "cdktn", "pytest", "psutil", "uv", "moto"} & names


def test_a_dependency_that_is_missing_here_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Target, "markers", lambda self: {})
    monkeypatch.setattr(Distribution, "requires", property(lambda self: ["no-such-package>=1"]))
    with pytest.raises(ConfigError, match="no-such-package"):
        needed(_ARM)


def test_a_package_too_large_for_lambda_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "_LIMIT", 10)
    with pytest.raises(ConfigError, match="Lambda takes"):
        build_package(_HERE, tmp_path / "controller.zip")


def _wheel(directory: Path, tag: str, native: bytes) -> None:
    """A wheel of version 1.0 of ``sample`` for ``tag``."""
    info = "sample-1.0.dist-info"
    with zipfile.ZipFile(directory / f"sample-1.0-{tag}.whl", "w") as archive:
        archive.writestr("sample/native.so", native)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: sample\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")


def _installed(directory: Path, tags: tuple[str, ...] = ("py3-none-any",)) -> Distribution:
    """An installation of ``sample`` whose wheel had ``tags``."""
    info = directory / "sample-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sample\nVersion: 1.0\n")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\n" + "".join(f"Tag: {tag}\n" for tag in tags))
    return PathDistribution(info)
