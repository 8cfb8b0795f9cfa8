import asyncio
import io
import json
import logging
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from select import PIPE_BUF

import httpx
import pytest
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.logs import content, lines
from tests.people import PASSWORD, Visitor
from ticketing.errors import StartupError
from ticketing.ops import logs
from ticketing.ops.log_file import LogFile
from ticketing.ops.logs import LOG_FILE
from ticketing.settings import Settings

HASH = "$bcrypt-sha256$"
WAITING_FOR_US = text(
    "SELECT count(*) FROM pg_locks"
    " WHERE NOT granted AND transactionid = CAST(pg_current_xact_id() AS xid)"
)


@pytest.fixture
def log_dir(settings: Settings) -> Path:
    return settings.log_dir


@pytest.fixture(autouse=True)
def _client_is_silent() -> None:
    # In these tests the client runs in the process of the service.
    logging.getLogger("httpx").setLevel(logging.WARNING)


def put_in_the_way_of(log_dir: Path) -> None:
    (log_dir / LOG_FILE).unlink()
    log_dir.rmdir()
    log_dir.write_text("a file")


async def test_every_request_leaves_one_line(visitor: Visitor, log_dir: Path) -> None:
    person = await visitor.register()
    event = await person.organise()
    before = len(lines(log_dir))
    answer = await person.get(f"/api/events/{event}/bookings", cursor="5ec4e7")
    (line,) = lines(log_dir)[before:]
    assert line["event"] == "request.completed"
    assert line["level"] == "info"
    assert line["method"] == "GET"
    assert line["path"] == "/api/events/{eventId}/bookings"
    assert line["status"] == 200
    assert line["durationMs"] > 0
    assert line["requestId"] == answer.headers["x-request-id"]
    assert line["clientIp"] == "127.0.0.1"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line["timestamp"])


async def test_the_line_has_the_caller_and_the_response(visitor: Visitor, log_dir: Path) -> None:
    person = await visitor.register()
    await person.get("/api/users/me")
    await visitor.client.get("/api/users/me")
    mine, nobodys = lines(log_dir, "request.completed")[-2:]
    assert (mine["userId"], mine["status"]) == (person.id, 200)
    assert (nobodys["userId"], nobodys["status"]) == (None, 401)


async def test_every_change_of_a_booking_leaves_one_line_with_its_request_id(
    visitor: Visitor, log_dir: Path
) -> None:
    first, second = await visitor.register(), await visitor.register()
    event = await first.organise(total=1)
    answers = [await first.book(event), await second.book(event), await first.cancel(event)]
    await first.cancel(event)  # changes nothing
    ids = [answer.headers["x-request-id"] for answer in answers]
    facts = lines(log_dir, "booking.")
    assert [(fact["event"], fact["userId"], fact["requestId"]) for fact in facts] == [
        ("booking.booked", first.id, ids[0]),
        ("booking.waiting", second.id, ids[1]),
        ("booking.cancelled", first.id, ids[2]),
        ("booking.promoted", second.id, ids[2]),
    ]
    assert {fact["eventId"] for fact in facts} == {event}
    assert facts[0]["bookingId"] == facts[2]["bookingId"]
    assert facts[1]["bookingId"] == facts[3]["bookingId"] != facts[0]["bookingId"]


@pytest.mark.parametrize("given", ["a", "0af7651916cd43dd.retry-1_x", "x" * 64])
async def test_a_valid_request_id_is_kept(
    client: httpx.AsyncClient, log_dir: Path, given: str
) -> None:
    answer = await client.get("/livez", headers={"X-Request-ID": given})
    assert answer.headers.get_list("x-request-id") == [given]
    assert lines(log_dir)[-1]["requestId"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\nb", "a;b", "é", '"}{"'])
async def test_any_other_request_id_is_replaced(
    client: httpx.AsyncClient, log_dir: Path, given: str
) -> None:
    headers = [(b"x-request-id", given.encode())]
    made = {(await client.get("/livez", headers=headers)).headers["x-request-id"] for _ in "12"}
    assert len(made) == 2
    assert given not in made
    assert {line["requestId"] for line in lines(log_dir)[-2:]} == made


async def test_a_problem_names_its_request_and_so_does_the_log(
    client: httpx.AsyncClient, log_dir: Path
) -> None:
    problem = (await client.get("/nowhere")).json()
    assert lines(log_dir)[-1]["requestId"] == problem["requestId"]


async def test_an_internal_error_is_logged_with_its_traceback_which_is_not_in_the_response(
    visitor: Visitor, engine: AsyncEngine, log_dir: Path
) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE users DROP COLUMN username CASCADE"))
    credentials = {"username": "ada", "password": PASSWORD}
    answer = await visitor.client.post("/api/users/register", json=credentials)
    assert answer.status_code == 500
    assert "username" not in answer.text
    failed, completed = lines(log_dir)[-2:]
    assert (failed["event"], failed["level"]) == ("request.failed", "error")
    assert failed["exception"][0]["exc_type"] == "UndefinedColumnError"
    frames = failed["exception"][0]["frames"]
    assert any(frame["name"] == "register" and frame["lineno"] > 0 for frame in frames)
    assert (completed["event"], completed["status"]) == ("request.completed", 500)
    assert failed["requestId"] == completed["requestId"] == answer.json()["requestId"]
    # Not even the parameters of the statement that failed.
    assert HASH not in content(log_dir)


async def test_no_password_and_no_token_is_logged(
    visitor: Visitor, log_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    person = await visitor.register()
    form = {"grant_type": "password", "username": person.username, "password": PASSWORD}
    answers = [
        await visitor.client.post("/api/users/token", data=form),
        await visitor.client.post(
            "/api/users/login", json={"username": person.username, "password": "wrong horse"}
        ),
        await visitor.client.post("/api/users/login", json={"password": ["wrong horse"]}),
        await person.get("/api/users/me", token=person.token),
        await visitor.client.get("/", headers={"Authorization": f"Bearer {person.token[:-3]}"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 401, 422, 422, 200]
    logged = content(log_dir) + capsys.readouterr().err
    assert logged.count("/api/users/token") == 2
    assert "horse" not in logged
    assert HASH not in logged
    assert not any(part in logged for part in person.token.split("."))


async def test_no_input_forges_a_line_or_controls_the_terminal(
    client: httpx.AsyncClient, log_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(lines(log_dir))
    path = "/%0A%0D%1B%5B2J%C2%9B%E2%80%A8" + '{"event":"booking.booked"}'
    await client.get(path)
    (line,) = lines(log_dir)[before:]
    assert line["path"].startswith("/\n\r\x1b[2J\x9b\u2028{")
    (shown,) = capsys.readouterr().err.splitlines()
    assert "request.completed" in shown
    assert shown.isprintable()


async def test_the_console_is_readable(
    client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    await client.get("/livez")
    logs.flush()
    (shown,) = capsys.readouterr().err.splitlines()
    pattern = (
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info +"
        r"request\.completed "
        r'\{"method":"GET","path":"/livez",.*\}'
    )
    assert re.fullmatch(pattern, shown)


def test_a_terminal_shows_the_level_of_a_warning_in_colour(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for is_terminal in (True, False):
        monkeypatch.setattr(sys.stderr, "isatty", lambda is_terminal=is_terminal: is_terminal)
        logs.configure(settings)
        logs.log.info("calm")
        logs.log.warning("urgent")
        calm, urgent = capsys.readouterr().err.splitlines()
        assert "\x1b" not in calm
        assert ("\x1b[33mwarning\x1b[0m urgent" in urgent) == is_terminal
        assert ("\x1b" in urgent) == is_terminal
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    logs.configure(settings)
    logs.log.warning("urgent")
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize("log_file", ["on", "off"])
def test_a_console_of_json_has_the_lines_of_the_file(
    settings: Settings, capsys: pytest.CaptureFixture[str], log_file: str
) -> None:
    changes = {"log_format": "json", "log_file": log_file}
    logs.configure(settings.model_copy(update=changes))
    logs.log.info("plain", number=1, name=None)
    logs.log.info("odd", text='é\n\x1b[2J\x7f\x9b\u2028"', pair="\ud83d", large=1 << 70)
    logging.getLogger("uvicorn.error").warning("from a library")
    shown = capsys.readouterr().err
    assert all(line.isprintable() and line.isascii() for line in shown.splitlines())
    records = [json.loads(line) for line in shown.splitlines()]
    assert [record["event"] for record in records] == ["plain", "odd", "from a library"]
    assert records[1]["text"] == 'é\n\x1b[2J\x7f\x9b\u2028"'
    assert records[2]["logger"] == "uvicorn.error"
    if log_file == "on":
        assert records == lines(settings.log_dir)
    else:
        assert not settings.log_dir.exists()


@pytest.mark.usefixtures("client")
async def test_libraries_log_to_the_same_place(
    log_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.getLogger("uvicorn.error").info("Started %s", "it")
    logging.getLogger("sqlalchemy.pool").warning("a\nb")
    try:
        int("nothing")
    except ValueError:
        logging.getLogger("asyncio").exception("It failed.")
    started, pool, failed = lines(log_dir)[-3:]
    assert (started["event"], started["logger"]) == ("Started it", "uvicorn.error")
    assert (pool["event"], pool["level"]) == ("a\nb", "warning")
    assert failed["exception"][0]["exc_type"] == "ValueError"
    assert len(capsys.readouterr().err.splitlines()) == 3


@pytest.mark.usefixtures("client")
async def test_any_value_can_be_logged(log_dir: Path) -> None:
    odd = {"number": 1 << 70, "folder": Path("/x"), "keys": {1: "\udcff"}}
    logs.log.info("half a pair: \ud83d", **odd)
    line = lines(log_dir)[-1]
    assert line["event"] == "half a pair: \ud83d"
    assert (line["number"], line["folder"], line["keys"]) == (1 << 70, "/x", {"1": "\udcff"})


@pytest.mark.usefixtures("client")
async def test_lines_keep_the_order_and_the_time_in_which_they_were_logged(log_dir: Path) -> None:
    logs.log.info("first")
    time.sleep(0.01)  # noqa: ASYNC251 - within one turn of the loop
    logs.info("second", {"requestId": "a"})
    logs.log.warning("third")
    first, second, third = lines(log_dir)[-3:]
    assert [line["event"] for line in (first, second, third)] == ["first", "second", "third"]
    assert first["timestamp"] < second["timestamp"] <= third["timestamp"]
    assert (second["level"], second["requestId"]) == ("info", "a")


@pytest.mark.usefixtures("client")
async def test_lines_are_written_together_but_not_late(log_dir: Path) -> None:
    logs.log.info("waits")
    assert "waits" not in (log_dir / LOG_FILE).read_text()
    async with asyncio.timeout(5):
        while "waits" not in (log_dir / LOG_FILE).read_text():  # noqa: ASYNC110 - a file sends no event
            await asyncio.sleep(0.001)


@pytest.mark.usefixtures("client")
async def test_a_warning_is_written_at_once_with_all_lines_before_it(log_dir: Path) -> None:
    logs.log.info("before")
    logs.log.warning("urgent")
    written = (log_dir / LOG_FILE).read_text().splitlines()
    assert [json.loads(line)["event"] for line in written[-2:]] == ["before", "urgent"]


def test_the_last_lines_of_a_process_are_written(tmp_path: Path) -> None:
    script = f"""
import asyncio
from pathlib import Path
from ticketing.ops import logs
from ticketing.settings import Settings

async def work():
    logs.log.info("first")
    logs.configure(settings)
    logs.log.info("last")

settings = Settings(_env_file=None, log_dir=Path({str(tmp_path)!r}))
logs.configure(settings)
asyncio.run(work())
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    written = (tmp_path / LOG_FILE).read_text().splitlines()
    assert [json.loads(line)["event"] for line in written] == ["first", "last"]


@pytest.mark.usefixtures("client")
async def test_no_line_of_a_long_turn_is_lost_or_written_twice(log_dir: Path) -> None:
    count = 2 * logs.MAX_LINES + 1
    for number in range(count):
        logs.info("counted", {"number": number})
    assert (log_dir / LOG_FILE).read_text().count('"counted"') == count - 1
    assert [line["number"] for line in lines(log_dir, "counted")] == list(range(count))


@pytest.mark.usefixtures("client")
async def test_the_console_gets_whole_lines_in_pieces_that_a_pipe_accepts_at_once(
    log_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[str] = []

    class Console(io.StringIO):
        def write(self, text: str) -> int:
            pieces.append(text)
            return len(text)

    monkeypatch.setattr(sys, "stderr", Console())
    for number in range(300):
        logs.info("tried", {"number": number, "text": "é" * (number * 10 % 1_000)})
    logs.info("tried", {"number": 300, "text": "x" * PIPE_BUF})
    logs.flush()
    shown = [line for piece in pieces for line in piece.splitlines()]
    assert [json.loads(line[line.index("{") :])["number"] for line in shown] == list(range(301))
    assert all(piece.endswith("\n") for piece in pieces)
    too_large = [piece for piece in pieces if len(piece.encode()) > PIPE_BUF]
    assert [piece.count("\n") for piece in too_large] == [1] * len(too_large)
    assert len(pieces) < 150
    assert len(lines(log_dir, "tried")) == 301


async def test_a_committed_booking_is_logged_though_the_client_has_gone(
    visitor: Visitor, log_dir: Path, engine: AsyncEngine
) -> None:
    person = await visitor.register()
    event = await person.organise()
    async with asyncio.timeout(5), engine.begin() as connection:
        held = text("SELECT FROM events WHERE id = :id FOR UPDATE")
        await connection.execute(held, {"id": event})
        asking = asyncio.create_task(person.book(event))
        while not await connection.scalar(WAITING_FOR_US):  # noqa: ASYNC110 - PostgreSQL sends no event
            await asyncio.sleep(0.001)
        asking.cancel()
    async with asyncio.timeout(5):
        while not (booked := lines(log_dir, "booking.booked")):  # noqa: ASYNC110 - nor does a file
            await asyncio.sleep(0.001)
    (given_up,) = lines(log_dir, "request.completed")[-1:]
    assert (given_up["path"], given_up["status"]) == ("/api/events/book", 0)
    assert booked[0]["userId"] == person.id
    assert booked[0]["requestId"] == given_up["requestId"]


@pytest.mark.usefixtures("client")
async def test_a_value_that_can_not_be_logged_loses_no_other_line(log_dir: Path) -> None:
    class Mute:
        def __str__(self) -> str:
            raise LookupError

    logs.log.info("before")
    logs.log.info("mute", field=Mute())
    logs.log.info("after")
    before, mute, after = lines(log_dir)[-3:]
    assert (before["event"], after["event"]) == ("before", "after")
    assert (mute["event"], mute["unloggable"]) == ("mute", "LookupError")


async def test_a_full_disk_for_the_log_fails_no_booking(
    visitor: Visitor, log_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    person = await visitor.register()
    event = await person.organise()
    put_in_the_way_of(log_dir)
    assert (await person.book(event)).status_code == 201
    logs.flush()
    shown = capsys.readouterr().err
    assert f"{log_dir / LOG_FILE} can't be written: " in shown
    assert "booking.booked" in shown


def test_a_line_that_a_full_disk_cuts_loses_no_other_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log_file = LogFile(tmp_path / LOG_FILE)
    log_file.write(b'{"event":"before"}\n')
    # A limit of the file size is like a full disk: a part is written, and then nothing.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (62, before[1]))
    try:
        log_file.write(b'{"event":"whole"}\n{"event":"cut"}\n{"event":"missing"}\n')
        log_file.write(b'{"event":"missing"}\n')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    for _ in "12":
        log_file.write(b'{"event":"after"}\n')
    assert (tmp_path / LOG_FILE).read_text().splitlines() == [
        '{"event":"before"}',
        '{"event":"whole"}',
        '{"event":"cut"}',
        '{"event":',
        '{"event":"after"}',
        '{"event":"after"}',
    ]
    assert capsys.readouterr().err.count("File too large") == 2


def test_a_log_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    in_the_way = tmp_path / "logs"
    in_the_way.write_text("")
    with pytest.raises(StartupError, match=r"^TICKETING_LOG_DIR: .*logs"):
        logs.configure(Settings(_env_file=None, log_dir=in_the_way))


async def test_the_level_is_a_threshold(
    visitor: Visitor, settings: Settings, log_dir: Path
) -> None:
    person = await visitor.register()
    event = await person.organise()
    logs.configure(settings.model_copy(update={"log_level": "WARNING"}))
    before = lines(log_dir)
    assert (await person.book(event)).status_code == 201
    logging.getLogger("uvicorn.error").info("hidden")
    assert lines(log_dir) == before
    structlog.get_logger().warning("shown")
    assert lines(log_dir)[-1]["event"] == "shown"
