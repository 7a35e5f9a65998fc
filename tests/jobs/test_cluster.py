"""Clusters that the user starts: as the guide says, for those with a certificate only."""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import pytest

from pipeline.config import make_config
from pipeline.errors import UserError
from pipeline.jobs import cluster
from pipeline.sample import write_sample
from tests.sources import ROOT

GUIDE = (ROOT / "docs" / "CLUSTERS.md").read_text(encoding="utf-8")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def blocks(language: str) -> list[str]:
    """Return the guide's listings in a language."""
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


@contextmanager
def started(log: Path, *command: str, environment: dict[str, str]) -> Iterator[psutil.Process]:
    """Let a command of Dask run meanwhile."""
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=os.environ | environment | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=out,
            stderr=out,
        )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def wait_for(log: Path, text: str) -> None:
    end = time.monotonic() + 60
    while text not in log.read_text():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)


@dataclass
class Cluster:
    """A cluster as the guide makes it: its address, environment, processes and certificates."""

    address: str
    environment: dict[str, str]
    processes: list[psutil.Process]
    secret: Path


def arguments(program: str) -> list[str]:
    """Return the options that the guide gives to a program of Dask."""
    (line,) = re.findall(rf"^dask {program} (.*)$", GUIDE, re.MULTILINE)
    return str(line).split()


@contextmanager
def serving(folder: Path, scheme: str, environment: dict[str, str]) -> Iterator[Cluster]:
    port = str(free_port())
    put = {"8786": port, "tls": scheme, "tls://<host>:8786": f"{scheme}://127.0.0.1:{port}"}
    scheduler = [put.get(each, each) for each in arguments("scheduler")]
    worker = [put.get(each, each) for each in arguments("worker")]
    worker[worker.index("--nworkers") + 1] = "1"
    logs = folder / "scheduler.log", folder / "worker.log"
    start = partial(started, environment=environment)
    with ExitStack() as stack:
        at = ["--host", "127.0.0.1"]
        of = start(logs[0], "distributed.cli.dask_scheduler", *scheduler, *at)
        processes = [stack.enter_context(of)]
        wait_for(logs[0], "Scheduler at:")
        of = start(logs[1], "distributed.cli.dask_worker", *worker, *at)
        processes.append(stack.enter_context(of))
        wait_for(logs[1], "Registered to:")
        yield Cluster(f"{scheme}://127.0.0.1:{port}", environment, processes, folder)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make certificates with")
    pytest.importorskip("distributed")
    secret = tmp_path_factory.mktemp("secret")
    subprocess.run(["bash", "-ec", blocks("sh")[0]], cwd=secret, check=True, capture_output=True)
    (secret / "dask").mkdir()
    (settings,) = blocks("yaml")
    (secret / "dask" / "concordance.yaml").write_text(settings.replace("/secret", str(secret)))
    with serving(secret, "tls", {"DASK_CONFIG": str(secret / "dask")}) as made:
        yield made


def discover(folder: Path, scheduler: str, environment: dict[str, str]) -> tuple[int, str]:
    """Carry out a small job as a command; return its exit code and what it printed."""
    write_sample(folder / "sample", n_images=12, size=64)
    options = {
        "dataset": folder / "sample" / "images", "model": "sample", "k": 3, "precision": "fp32",
        "run": folder / "run", "scheduler": scheduler,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "stages.discover", *(f"--{k}={v}" for k, v in options.items())],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.slow
def test_a_job_in_a_cluster_with_certificates(secured: Cluster, tmp_path: Path) -> None:
    code, said = discover(tmp_path, secured.address, secured.environment)
    assert code == 0, said
    assert (tmp_path / "run" / "heatmaps" / "shard-00000.h5").exists()
    assert "run code as you" not in said


ASK = """
import sys
from distributed import Client, Security
names = ("tls_ca_file", "tls_client_cert", "tls_client_key")
security = Security(**dict(zip(names, sys.argv[2:])))
try:
    with Client(sys.argv[1], timeout=2, security=security) as client:
        print(client.submit(abs, -7).result())
except Exception as error:
    known = ("OSError", "CommClosedError", "FatalCommClosedError", "TypeError", "CancelledError")
    print("refused" if type(error).__name__ in known else repr(error))
"""


def ask(address: str, *certificates: str) -> str:
    command = [sys.executable, "-c", ASK, address, *certificates]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout.strip()


@pytest.mark.slow
def test_nobody_is_served_without_a_certificate(secured: Cluster, tmp_path: Path) -> None:
    """On none of the ports of any of the processes: no protocol of Dask, no page."""
    names = ("ca.pem", "dask.pem", "dask.key")
    ours, theirs = ([str(folder / each) for each in names] for folder in (secured.secret, tmp_path))
    subprocess.run(["bash", "-ec", blocks("sh")[0]], cwd=tmp_path, check=True, capture_output=True)
    assert ask(secured.address, *ours) == "7"
    assert ask(secured.address, *theirs) == "refused"
    assert ask(secured.address, ours[0], *theirs[1:]) == "refused"
    assert ask(secured.address) == "refused"
    assert ask(secured.address.replace("tls", "tcp")) == "refused"
    family = [
        each for first in secured.processes for each in [first, *first.children(recursive=True)]
    ]
    ports = {
        (one.laddr.ip, one.laddr.port)
        for each in family
        for one in each.net_connections("tcp")
        if one.status == psutil.CONN_LISTEN
    }
    assert len(ports) >= 5  # scheduler, nanny, worker, and two that would serve pages
    assert {ip for ip, _ in ports} == {"127.0.0.1"}
    for _, port in ports:
        assert not answers_tls_without_certificate(port)
        for page in ("", "info/main/workers.html", "metrics", "json/identity.json", "health"):
            assert not serves(f"http://127.0.0.1:{port}/{page}"), (port, page)


def answers_tls_without_certificate(port: int) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            context.wrap_socket(plain) as wrapped,
        ):
            return bool(wrapped.recv(1))
    except OSError:  # the handshake fails, or ends without a word
        return False


def serves(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=10):
            return True
    except (OSError, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
            assert error.code == 404
        return False
    except Exception as error:
        assert type(error).__name__ == "BadStatusLine"  # it does not speak HTTP
        return False


def test_a_cluster_in_the_open_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("distributed")
    caplog.set_level(logging.INFO, "concordance")
    with serving(tmp_path, "tcp", {"DASK_CONFIG": str(tmp_path)}) as made:
        cluster.check(made.address)
        (line,) = [record.getMessage() for record in caplog.records]
        assert "whoever reaches that port can run code as you" in line
        assert sorted(cluster.as_they_come(abs, [-1, 2], made.address)) == [1, 2]
        work = cluster.as_they_come(time.sleep, [0, 60], made.address)
        next(work)
        for process in made.processes:
            for each in [*process.children(recursive=True), process]:
                each.kill()
        start = time.monotonic()
        with pytest.raises(UserError, match="does not answer any more: start it again"):
            next(work)
        print(f"{time.monotonic() - start:.1f} s")


@pytest.mark.parametrize(
    "address",
    ["localhost:8786", "http://host:1", "tcp://host", "tcp://:8786", "tls://host:x", "tls://host:1/",
     "inproc://1/2", "tcp://me@host:1", "tcp://host:99999", "yes"],
)  # fmt: skip
def test_what_is_no_address_is_refused_before_work(address: str) -> None:
    with pytest.raises(UserError, match=r"is not possible .* tls://host:port or tcp://host:port"):
        make_config({"scheduler": address})
    assert make_config({"scheduler": "tls://[::1]:8786"}).scheduler == "tls://[::1]:8786"


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer_is_told_soon() -> None:
    pytest.importorskip("distributed")
    start = time.monotonic()
    with pytest.raises(
        UserError, match=r"no work with scheduler='tcp://127\.0\.0\.1:\d+': .*(refused|Timed out)"
    ):
        cluster.check(f"tcp://127.0.0.1:{free_port()}")
    assert time.monotonic() - start < cluster.PATIENCE + 10


def test_certificates_that_are_missing_are_asked_for() -> None:
    pytest.importorskip("distributed")
    with pytest.raises(UserError, match=r"needs certificates: .*docs/CLUSTERS\.md"):
        cluster.check("tls://127.0.0.1:8786")
