"""The package is the same whenever its content is, holds nothing it has no use for, and really runs."""

from __future__ import annotations

import io
import json
import os
import platform
import socket
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
    return build_package(_HERE, tmp_path_factory.mktemp("package") / "controller.zip", {})


@pytest.fixture(scope="module")
def unpacked(built: Package, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its content, as Lambda has it on the path."""
    directory = tmp_path_factory.mktemp("content")
    with zipfile.ZipFile(built.path) as archive:
        archive.extractall(directory)
    return directory


@pytest.fixture(scope="module")
def cloud() -> Iterator[dict[str, str]]:
    """Emulated AWS with what a deployment published, and servers that nobody started; gives the function's
    environment."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    access = {"AWS_ACCESS_KEY_ID": "123456789012", "AWS_SECRET_ACCESS_KEY": "emulated"}
    session = boto3.Session(access["AWS_ACCESS_KEY_ID"], access["AWS_SECRET_ACCESS_KEY"], region_name="eu-central-1")
    url = f"http://{host}:{port}"
    session.client("ssm", endpoint_url=url).put_parameter(
        Name="/migration/test/config", Type="SecureString", Value=json.dumps({"settings": _SETTINGS, "tls": {}})
    )
    vault = session.client("secretsmanager", endpoint_url=url)
    arns = [vault.create_secret(Name=side, SecretString=json.dumps(_SECRET))["ARN"] for side in ("source", "target")]
    session.client("dynamodb", endpoint_url=url).create_table(
        TableName="state",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("migration", "item")],
        KeySchema=[{"AttributeName": "migration", "KeyType": "HASH"}, {"AttributeName": "item", "KeyType": "RANGE"}],
    )
    yield {
        **access,
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "NO_PROXY": host,
        "no_proxy": host,
        "CONFIG_PARAMETER": "/migration/test/config",
        "SOURCE_SECRET": arns[0],
        "TARGET_SECRET": arns[1],
        "STATE_TABLE": "state",
        "STATE_KEY": "arn:aws:kms:eu-central-1:123456789012:key/1",
        "NOTICES_TOPIC": "arn:aws:sns:eu-central-1:123456789012:topic",
        "SCHEDULE": "poll",
    }
    server.stop()


_SETTINGS = {
    "name": "payments",
    "aws": {
        "environment": "test",
        "region": "eu-central-1",
        "network": {"vpc_cidr": "10.60.0.0/16"},
        "aurora": {"engine_version": "17.5"},
        "routing": {"zone_name": "payments.internal"},
    },
}
_SECRET = {
    "engine": "postgres",
    "host": "127.0.0.1",
    "port": 1,
    "dbname": "payments",
    "username": "daybreak",
    "password": "tell-nobody",
}


def _invoke(content: Path, environment: dict[str, str], event: object) -> subprocess.CompletedProcess[str]:
    """Call the handler as Lambda does, in a Python that knows the standard library and ``content`` only."""
    script = f"""
        import json, sys
        sys.path.insert(0, {str(content)!r})
        from daybreak.entry.lambda_handler import handle
        class Context:
            aws_request_id = "r-1"
            def get_remaining_time_in_millis(self): return 900_000
        print("answer " + json.dumps(handle({event!r}, Context())))
    """
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", textwrap.dedent(script)],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "tell-nobody" not in done.stdout + done.stderr
    return done


def _answer(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1].removeprefix("answer "))
    return found


def test_same_content_gives_same_bytes(built: Package) -> None:
    again = build_package(_HERE, built.path.with_name("again.zip"), {})
    assert again.path.read_bytes() == built.path.read_bytes()
    assert again.size == built.size == built.path.stat().st_size


def test_an_unchanged_package_is_not_written_again(built: Package) -> None:
    before = built.path.stat()
    build_package(_HERE, built.path, {})
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


def test_packaged_handler_says_how_the_migration_stands(unpacked: Path, cloud: dict[str, str]) -> None:
    done = _invoke(unpacked, cloud, {"action": "status"})
    answer = _answer(done)
    assert answer["phase"] == "planned"
    assert "127.0.0.1" in str(answer["servers"]), "the server that does not answer is named"
    first = json.loads(done.stdout.splitlines()[0])
    assert (first["message"], first["what"], first["function_request_id"]) == ("asked", "status", "r-1")


def test_its_calls_are_traced(unpacked: Path, cloud: dict[str, str]) -> None:
    """As Lambda has it: a trace that was begun outside, and a daemon beside the function (X-Ray developer guide)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        lambda_s = {
            "LAMBDA_TASK_ROOT": str(unpacked),
            "_X_AMZN_TRACE_ID": "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1",
            "AWS_XRAY_DAEMON_ADDRESS": f"127.0.0.1:{daemon.getsockname()[1]}",
        }
        _answer(_invoke(unpacked, {**cloud, **lambda_s}, {"action": "status"}))
        daemon.settimeout(10)
        parts = [json.loads(daemon.recv(65_536).decode().partition("\n")[2])]
        while parts[-1]["name"] != "## handle":  # the outermost comes last
            parts.append(json.loads(daemon.recv(65_536).decode().partition("\n")[2]))
        assert {"ssm", "secretsmanager", "dynamodb"} <= {part["name"] for part in parts}
        assert "tell-nobody" not in str(parts)


def test_without_a_trace_it_works_as_well(unpacked: Path, cloud: dict[str, str]) -> None:
    found = _answer(_invoke(unpacked, {**cloud, "LAMBDA_TASK_ROOT": str(unpacked)}, {"action": "status"}))
    assert (found["name"], found["phase"]) == ("payments", "planned")


def test_an_event_of_somebody_else_is_left_alone(unpacked: Path, cloud: dict[str, str]) -> None:
    event = {"source": "aws.dms", "detail-type": "DMS Replication Task State Change", "resources": ["arn:other"]}
    assert _answer(_invoke(unpacked, cloud, event)) == {"ignored": "DMS Replication Task State Change"}


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ({"action": "cutover"}, "Nothing has been started yet"),
        ({"action": "status", "force": True}, "force: Extra inputs"),
        ({"action": "shift", "weight": 101}, "less than or equal to 100"),
        ({}, "action: Field required"),
        (None, "the request"),
    ],
)
def test_what_cannot_be_done_fails_for_the_caller(
    unpacked: Path, cloud: dict[str, str], event: object, why: str
) -> None:
    done = _invoke(unpacked, cloud, event)
    assert done.returncode != 0
    assert why in done.stderr
    assert any(json.loads(line)["level"] == "ERROR" for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"CONFIG_PARAMETER": "/absent"}, "ParameterNotFound"),
        ({"SOURCE_SECRET": "absent"}, "secret absent"),
        ({"STATE_TABLE": ""}, "environment lacks STATE_TABLE"),
    ],
)
def test_what_was_not_deployed_is_named(
    unpacked: Path, cloud: dict[str, str], change: dict[str, str], message: str
) -> None:
    done = _invoke(unpacked, {**cloud, **change}, {"action": "status"})
    assert done.returncode != 0
    assert message in done.stderr


def test_files_travel_under_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "needed", lambda _target: ())
    (tmp_path / "ca.pem").write_text("PEM")
    made = build_package(_HERE, tmp_path / "controller.zip", {"ca/target.pem": tmp_path / "ca.pem"})
    with zipfile.ZipFile(made.path) as archive:
        assert archive.read("ca/target.pem") == b"PEM"
    with pytest.raises(ConfigError, match=r"absent\.pem can't be read"):
        build_package(_HERE, tmp_path / "controller.zip", {"ca/target.pem": tmp_path / "absent.pem"})


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
        build_package(_HERE, tmp_path / "controller.zip", {})


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
