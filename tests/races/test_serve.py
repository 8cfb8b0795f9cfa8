"""`ticketing serve` for an operator: start, stop, kill and wrong settings."""

import json
import os
import signal
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.databases import with_database
from tests.people import Person, bookings_of
from tests.processes import (
    family,
    kill,
    wait_until_gone,
    wait_until_it_takes,
    worker_of,
    workers_of,
)
from tests.serving import (
    LISTENING,
    PATIENCE,
    TICKETING,
    UP,
    logged,
    refusal,
    said,
    serving,
    visiting,
)
from tests.signing import SECRET


@pytest.mark.usefixtures("unmeasured")
async def test_a_service_that_is_stopped_or_killed_leaves_nothing_but_its_data(
    open_dir: Path,
) -> None:
    with serving(open_dir, "--workers", "2") as service:
        secret = open_dir / "data" / "jwt_secret"
        kept = secret.read_text()
        assert len(kept) >= 32
        assert secret.stat().st_mode & 0o777 == 0o600
        async with visiting(service) as visitor:
            person = await visitor.register()
            assert (await person.book(await person.organise())).status_code == 201
        relatives = family(service.process.pid)
        assert sum("spawn_main" in command for command in relatives.values()) == 2
        assert any("bin/postgres" in command for command in relatives.values())
        assert service.stop() == 0
        wait_until_gone(relatives)

    with serving(open_dir, "--host", "localhost") as service:
        async with visiting(service) as visitor:
            assert len(await bookings_of(person, visitor)) == 1
        assert secret.read_text() == kept
        relatives = family(service.process.pid)
        service.process.kill()
        service.process.wait(PATIENCE)
        wait_until_gone(relatives)
        assert "Traceback" not in service.console.read_text()


@pytest.mark.usefixtures("unmeasured")
async def test_a_service_that_was_killed_starts_again_with_all_it_acknowledged(
    kept_dir: Path,
) -> None:
    everybody: set[int] = set()
    people: list[Person] = []
    port = "0"
    with ExitStack() as stack:
        for spared in ("all but the parent", "bin/sh", "postgres"):
            # On the same port and data, while the rest of the killed service is still ending.
            service = stack.enter_context(serving(kept_dir, "--port", port))
            port = service.url.rpartition(":")[2]
            relatives = family(service.process.pid)
            everybody |= relatives.keys()
            async with visiting(service) as visitor:
                for person in people:
                    assert len(await bookings_of(person, visitor)) == 1
                people.append(await visitor.register())
                answer = await people[-1].book(await people[-1].organise())
                assert answer.status_code == 201
            if spared == "all but the parent":
                service.process.kill()
            else:
                kill(pid for pid, command in relatives.items() if spared not in command)
            service.process.wait(PATIENCE)

        service = stack.enter_context(serving(kept_dir, "--port", port))
        everybody |= family(service.process.pid).keys()
        async with visiting(service) as visitor:
            for person in people:
                assert len(await bookings_of(person, visitor)) == 1
        assert service.stop() == 0
        wait_until_gone(everybody)


@pytest.mark.usefixtures("unmeasured")
def test_a_worker_that_dies_is_replaced_and_one_that_cannot_start_ends_the_service(
    kept_dir: Path,
) -> None:
    with serving(kept_dir) as service:
        first = worker_of(service)
        kill([first])
        wait_until_gone([first])
        assert httpx.get(service.url + "/readyz", timeout=PATIENCE).status_code == 200
        second = worker_of(service)
        assert second != first

        relatives = family(service.process.pid)
        logs = kept_dir / "logs"
        logs.rename(kept_dir / "logs.old")
        logs.write_text("in the way of the next worker")
        kill([second])
        assert service.process.wait(PATIENCE) == 1
        said = service.console.read_text()
        assert f"TICKETING_LOG_DIR: {logs.name} can't be used: " in said
        last = said.splitlines()[-1]
        assert last == "ticketing: a worker could not start: see the log"
        wait_until_gone(relatives)


@pytest.mark.usefixtures("unmeasured")
def test_in_a_container_the_whole_console_is_json_and_there_is_no_log_file(kept_dir: Path) -> None:
    settings = {"TICKETING_LOG_FORMAT": "json", "TICKETING_LOG_FILE": "off"}
    with subprocess.Popen(
        [*TICKETING, "serve", "--port", "0"],
        cwd=kept_dir,
        env={**os.environ, **settings},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        records = []
        for line in process.stdout:
            records.append(json.loads(line))
            if records[-1]["event"] == "worker.started":
                process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    events = [record["event"] for record in records]
    assert (events[0], events[-1]) == ("service.started", "service.stopped")
    assert httpx.URL(records[0]["address"]).host == "localhost"
    assert not (kept_dir / "logs").exists()


@pytest.mark.usefixtures("unmeasured")
def test_workers_that_keep_dying_are_replaced_ever_more_slowly(kept_dir: Path) -> None:
    with serving(kept_dir, "--workers", "2") as service:
        first, spared = workers_of(service)
        started, deaths = time.monotonic(), 0
        while time.monotonic() - started < 4:
            doomed = set(workers_of(service)) - {spared}
            kill(doomed)
            wait_until_gone(doomed)
            deaths += len(doomed)
            assert httpx.get(service.url + "/livez", timeout=PATIENCE).status_code == 200
        assert first not in workers_of(service)
        # At once, after 0.25 s, 0.5 s, 1 s, 2 s.
        assert 3 <= deaths <= 6
        assert len(logged(kept_dir, "worker.died")) == deaths
        assert service.stop() == 0


@pytest.mark.usefixtures("unmeasured")
def test_one_worker_that_cannot_start_does_not_end_those_that_serve(kept_dir: Path) -> None:
    with serving(kept_dir, "--workers", "2") as service:
        said(service, UP, times=2)
        first, spared = workers_of(service)
        logs = kept_dir / "logs"
        logs.rename(kept_dir / "logs.old")
        logs.write_text("in the way of the next worker")
        kill([first])
        wait_until_gone([first])
        service.process.send_signal(signal.SIGHUP)
        said(service, "service.restart_failed")
        assert spared in workers_of(service)
        assert httpx.get(service.url + "/livez", timeout=PATIENCE).status_code == 200
        logs.unlink()
        service.process.send_signal(signal.SIGHUP)
        said(service, "service.restarted")
        assert spared not in workers_of(service)
        assert httpx.get(service.url + "/readyz", timeout=PATIENCE).status_code == 200


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(
    ("number", "tenths"),
    [(signal.SIGINT, (0, 3, 5, 7, 9)), (signal.SIGTERM, (1, 4, 6, 8, 10))],
)
def test_an_interrupt_during_the_start_shows_no_traceback(
    open_dir: Path, number: signal.Signals, tenths: tuple[int, ...]
) -> None:
    for tenth in tenths:
        with subprocess.Popen(
            [*TICKETING, "serve", "--port", "0", "--data-dir", f"data-{tenth}"],
            cwd=open_dir,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            wait_until_it_takes(signal.SIGTERM, process.pid)
            time.sleep(tenth / 10)
            relatives = family(process.pid)
            os.killpg(process.pid, number)
            _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode in {128 + number, 0}
        assert "Traceback" not in said
        wait_until_gone(relatives)
        cluster = open_dir / f"data-{tenth}" / "postgres"
        assert cluster.exists() or not cluster.parent.exists()
        assert not cluster.with_name("postgres.half").exists()


@pytest.mark.usefixtures("unmeasured")
def test_a_hangup_during_the_start_does_not_end_it(open_dir: Path) -> None:
    with subprocess.Popen(
        [*TICKETING, "serve", "--port", "0"],
        cwd=open_dir,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        deadline = time.monotonic() + PATIENCE
        while not (open_dir / "data" / "lock").exists():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGHUP)
        url = next(line for line in process.stdout if line.startswith(LISTENING)).split()[1]
        assert httpx.get(url + "/readyz", timeout=PATIENCE).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


@pytest.mark.usefixtures("unmeasured")
def test_a_second_service_on_the_same_data_or_port_is_refused(kept_dir: Path) -> None:
    elsewhere = kept_dir / "elsewhere"
    elsewhere.mkdir()
    with serving(kept_dir) as service:
        port = service.url.rpartition(":")[2]
        line = refusal(elsewhere, "--data-dir", str(kept_dir / "data"))
        assert line == f"{kept_dir / 'data'} is in use by another `ticketing serve`"
        line = refusal(elsewhere, "--port", port)
        expected = f"can't listen on 127.0.0.1 port {port}: Address already in use"
        assert line == f"{expected}: choose another --port"
        assert httpx.get(service.url + "/readyz", timeout=PATIENCE).status_code == 200
    assert not (elsewhere / "data").exists()


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("workers", ["1", "3"])
def test_a_wrong_setting_stops_the_start(open_dir: Path, workers: str) -> None:
    line = refusal(open_dir, TICKETING_WORKERS=workers, TICKETING_JWT_SECRET="short")
    assert line == "TICKETING_JWT_SECRET: must be at least 32 bytes long"
    assert list(open_dir.iterdir()) == []


def test_an_external_database_needs_a_secret_setting(open_dir: Path) -> None:
    line = refusal(open_dir, TICKETING_DATABASE_URL="postgresql://127.0.0.1:1/tickets")
    assert line == "TICKETING_JWT_SECRET: is required with TICKETING_DATABASE_URL"


@pytest.mark.usefixtures("unmeasured")
def test_a_database_that_cannot_be_reached_is_named(open_dir: Path) -> None:
    line = refusal(
        open_dir,
        *("--workers", "3"),
        TICKETING_DATABASE_URL="postgresql://ada:swordfish@127.0.0.1:1/tickets",
        TICKETING_JWT_SECRET=SECRET,
    )
    assert line.startswith("the database postgresql://ada:***@127.0.0.1:1/tickets can't be reached")


@pytest.mark.usefixtures("unmeasured")
async def test_a_database_that_is_not_migrated_is_refused(open_dir: Path, server_url: str) -> None:
    connection = await asyncpg.connect(server_url)
    await connection.execute(f"CREATE DATABASE bare_{os.getpid()} TEMPLATE template0")
    url = with_database(server_url, f"bare_{os.getpid()}")
    try:
        line = refusal(open_dir, TICKETING_DATABASE_URL=url, TICKETING_JWT_SECRET=SECRET)
    finally:
        await connection.execute(f"DROP DATABASE bare_{os.getpid()} WITH (FORCE)")
        await connection.close()
    assert line == "the database is not migrated: run `ticketing migrate` first"


def test_data_of_another_postgresql_version_is_left_alone(open_dir: Path) -> None:
    cluster = open_dir / "data" / "postgres"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("9\n")
    assert refusal(open_dir).startswith(f"{cluster} was made by PostgreSQL 9, this is ")
    assert [path.name for path in cluster.iterdir()] == ["PG_VERSION"]


def test_a_folder_that_cannot_be_used_is_named(open_dir: Path) -> None:
    (open_dir / "file").write_text("")
    line = refusal(open_dir, TICKETING_DATA_DIR="file")
    assert line.startswith(f"TICKETING_DATA_DIR: {open_dir / 'file'} can't be used: ")
    line = refusal(open_dir, TICKETING_LOG_DIR="file")
    assert line.startswith("TICKETING_LOG_DIR: file can't be used: ")


def test_an_unknown_host_is_named(open_dir: Path) -> None:
    assert refusal(open_dir, "--host", "a..b").startswith("can't listen on a..b port 0: ")
    assert not (open_dir / "data").exists()


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_one_interrupt_is_enough_during_the_start_of_the_workers(open_dir: Path) -> None:
    with subprocess.Popen(
        [*TICKETING, "serve", "--port", "0", "--host", "::1", "--workers", "2"],
        cwd=open_dir,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        listening = next(line for line in process.stdout if line.startswith(LISTENING))
        assert listening.startswith(f"{LISTENING}http://[::1]:")
        relatives = family(process.pid)
        os.killpg(process.pid, signal.SIGINT)  # to all processes, as a terminal does
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        assert "Traceback" not in said
        wait_until_gone(relatives)
