"""Logs: structlog to `combined.log`, the console, or both."""

import asyncio
import atexit
import json
import logging
import sys
import threading
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, TypeAlias

import orjson
import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, WrappedLogger

from ticketing.errors import StartupError
from ticketing.ops.colour import RED, YELLOW, has_colours, painted
from ticketing.ops.log_file import LogFile, pieces, to_console
from ticketing.settings import Settings

LOG_FILE: Final = "combined.log"
MAX_LINES: Final = 64
"""Lines that are collected before they are written. With more, the first would leave the
processor's cache."""
WAIT: Final = 0.01
"""Seconds for which lines are collected, or the length of the event loop's turn if longer."""
PATIENT: Final = {"debug", "info"}
"""Levels of lines that are collected; other lines are written at once."""
LEVELS: Final = {
    level: f"{level:<7}" for level in ("debug", "info", "warning", "error", "critical")
}
"""Levels on the console."""
IN_COLOUR: Final = LEVELS | {
    "warning": painted(LEVELS["warning"], YELLOW),
    "error": painted(LEVELS["error"], RED),
    "critical": painted(LEVELS["critical"], RED),
}
"""Levels on a terminal."""

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that the running code serves; empty outside one."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
"""Use it as `logs.log`: `configure` replaces it."""

_Line: TypeAlias = tuple[int, str, str, EventDict]
"""Time in nanoseconds since the epoch, level, event name and fields."""

_sink: "_Sink | None" = None
"""Destination of all lines; `configure` sets it."""

# A longer traceback loses its middle, where our code is, between that of two libraries.
_traceback = ExceptionDictTransformer(show_locals=False, max_frames=100)


class _Sink:
    """Writes lines to the file and the console. structlog and `info` call it.

    Lines that are logged in an event loop are collected, then rendered and written together: after
    a short time, when they are many, or at once with a warning or worse. Under load that is one
    system call for many requests, and each line takes half as long, because the code that renders
    them stays in the processor's cache. A single request gets its response before the file is
    written.
    """

    def __init__(self, file: LogFile | None, level: int, *, console_is_json: bool) -> None:
        self._file = file
        self._console_is_json = console_is_json
        self._levels = IN_COLOUR if has_colours(sys.stderr) else LEVELS
        self.takes_info = level <= logging.INFO
        self._lines: list[_Line] = []
        self._waiting: asyncio.AbstractEventLoop | None = None
        # Reentrant, because a garbage collection inside may log too.
        self._lock = threading.RLock()

    def msg(self, line: _Line) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        with self._lock:
            self._lines.append(line)
            if loop is None or len(self._lines) >= MAX_LINES or line[1] not in PATIENT:
                self.flush()
            elif loop is not self._waiting:
                self._waiting = loop
                loop.call_later(WAIT, self._wake)

    def _wake(self) -> None:
        self._waiting = None
        self.flush()

    def flush(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, []
            if lines:
                self._write(lines)

    def _write(self, lines: list[_Line]) -> None:
        rendered = [_as_json(*line) for line in lines]
        if self._file is not None:
            self._file.write(b"".join([as_json for as_json, _, _ in rendered]))
        if self._console_is_json:
            shown = [_in_ascii(as_json) for as_json, _, _ in rendered]
        else:
            shown = [
                _as_text(when, self._levels[level], name, event, fields)
                for (_, level, name, event), (_, when, fields) in zip(lines, rendered, strict=True)
            ]
        for piece in pieces(shown):
            to_console(piece)

    debug = info = warning = error = critical = msg


class _Forward(logging.Handler):
    """Sends the logs of uvicorn, SQLAlchemy and other libraries through the same pipeline."""

    def emit(self, record: logging.LogRecord) -> None:
        log.log(
            record.levelno,
            record.getMessage(),
            logger=record.name,
            exc_info=record.exc_info,
        )


def _line(_logger: WrappedLogger, level: str, event: EventDict) -> tuple[tuple[_Line], EventDict]:
    """Return the line for the sink, with the time, the request's id and the traceback."""
    now = time.time_ns()
    name = event.pop("event")
    if current := request_id.get():
        event["requestId"] = current
    exc_info = event.pop("exc_info", None)
    if exc_info:
        if isinstance(exc_info, BaseException):
            exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
        elif not isinstance(exc_info, tuple):
            exc_info = sys.exc_info()
        event["exception"] = _traceback(exc_info)
    return ((now, level, name, event),), {}


def _as_json(at: int, level: str, name: str, event: EventDict) -> tuple[bytes, str, bytes]:
    """Return the line as JSON, and its time and fields separately for `_as_text`.

    They are rendered only once, because this runs several times per request.
    """
    when = _time(at)
    fields = _json(event)
    head = f'{{"timestamp":"{when}+00:00","level":"{level}","event":'.encode() + _json(name)
    return head + (b"," + fields[1:] if event else b"}") + b"\n", when, fields


def _as_text(when: str, level: str, name: str, event: EventDict, fields: bytes) -> str:
    """Return the line for people."""
    if "logger" in event:  # The name of a library's logger is of no use at a console.
        del event["logger"]
        fields = _json(event)
    text = f"{name} {fields.decode()}" if event else name
    if not text.isprintable():  # It could forge a second line or control the terminal.
        text = text.encode("unicode_escape").decode()
    return f"{when}Z {level} {text}\n"


def _in_ascii(line: bytes) -> str:
    """Return the same record in ASCII, which every console can show and none executes."""
    text = line[:-1].decode()
    if text.isascii() and text.isprintable():
        return text + "\n"
    return json.dumps(json.loads(text), separators=(",", ":")) + "\n"


def _time(nanoseconds: int) -> str:
    """Return a time since the epoch, to the millisecond (RFC 3339), without its offset: UTC."""
    seconds, milliseconds = divmod(nanoseconds // 1_000_000, 1000)
    return f"{_until_the_second(seconds)}.{milliseconds:03}"


@lru_cache(maxsize=1)
def _until_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _json(value: object) -> bytes:
    try:
        return orjson.dumps(value, default=str)
    except TypeError:
        # For lone surrogates and large numbers. Slower, but a log must accept everything.
        try:
            return json.dumps(value, default=str, skipkeys=True).encode()
        except Exception as error:  # noqa: BLE001 - whatever a field's own `str` raises
            # Other lines, which are rendered with this one, must not fail.
            return orjson.dumps({"unloggable": type(error).__name__})


def info(name: str, fields: EventDict) -> None:
    """Log as `log.info` does, but faster and without adding fields.

    Use it for lines that every request logs, because structlog would double the cost of a line.
    """
    if _sink is not None and _sink.takes_info:
        _sink.msg((time.time_ns(), "info", name, fields))


@atexit.register
def flush() -> None:
    """Write all collected lines."""
    if _sink is not None:
        _sink.flush()


def configure(settings: Settings) -> None:
    """Send the log of this process to the console and the file, as the settings say.

    Raises StartupError if the file can't be opened.
    """
    # Bound once, because looking the logger up takes as long as writing its line.
    global log, _sink  # noqa: PLW0603
    number = logging.getLevelNamesMapping()[settings.log_level]
    flush()
    file = None
    if settings.log_file == "on":
        folder = settings.log_dir
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = LogFile(folder / LOG_FILE)
        except OSError as error:
            raise StartupError(f"TICKETING_LOG_DIR: {folder} can't be used: {error}") from error
    _sink = sink = _Sink(file, number, console_is_json=settings.log_format == "json")
    structlog.configure(
        processors=[_line],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: sink,
        cache_logger_on_first_use=False,
    )
    log = structlog.get_logger().bind()
    logging.basicConfig(handlers=[_Forward()], level=max(number, logging.INFO), force=True)
    # They log the dialect, and each plugin that is loaded.
    for name in ("alembic.runtime.migration", "alembic.runtime.plugins"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "sqlalchemy", "alembic"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
