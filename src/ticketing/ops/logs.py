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
"""Lines that wait to be written: of more, the first would be in no cache any more."""
WAIT: Final = 0.01
"""Seconds for which they wait, or as long as the event loop's turn takes."""
PATIENT: Final = {"debug", "info"}
"""The levels of the lines that wait."""
LEVELS: Final = {
    level: f"{level:<7}" for level in ("debug", "info", "warning", "error", "critical")
}
"""How they look on the console."""
IN_COLOUR: Final = LEVELS | {
    "warning": painted(LEVELS["warning"], YELLOW),
    "error": painted(LEVELS["error"], RED),
    "critical": painted(LEVELS["critical"], RED),
}
"""How they look on a terminal."""

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that the running code serves; empty outside one."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
"""Use it as `logs.log`: `configure` replaces it."""

_Line: TypeAlias = tuple[int, str, str, EventDict]
"""When, in nanoseconds since the epoch, the level, the event's name and its fields."""

_sink: "_Sink | None" = None
"""Where all is written since `configure`."""

# Of a longer one, its middle is left out, and our code sits between that of two libraries.
_traceback = ExceptionDictTransformer(show_locals=False, max_frames=100)


class _Sink:
    """What structlog calls last, and `info`, for the file and the console.

    Lines that are logged in an event loop are rendered and written together, a little later, when
    they are many, or before one that is a warning or worse. Under load that is one system call for
    many requests, and each line takes half as long: what renders them is in the processor's cache
    then. And who books alone is answered before a file is written to.
    """

    def __init__(self, file: LogFile | None, level: int, *, console_is_json: bool) -> None:
        self._file = file
        self._console_is_json = console_is_json
        self._levels = IN_COLOUR if has_colours(sys.stderr) else LEVELS
        self.takes_info = level <= logging.INFO
        self._lines: list[_Line] = []
        self._waiting: asyncio.AbstractEventLoop | None = None
        # Reentrant: a garbage collection inside may log too.
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
    """Send what uvicorn, SQLAlchemy and other libraries log through the same pipeline."""

    def emit(self, record: logging.LogRecord) -> None:
        log.log(
            record.levelno,
            record.getMessage(),
            logger=record.name,
            exc_info=record.exc_info,
        )


def _line(_logger: WrappedLogger, level: str, event: EventDict) -> tuple[tuple[_Line], EventDict]:
    """Return the line as the sink takes it, with what is only known now."""
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
    """Return the line as JSON, and its time and its fields alone, which the text has too.

    They are rendered once for both: this runs several times per request.
    """
    when = _time(at)
    fields = _json(event)
    head = f'{{"timestamp":"{when}+00:00","level":"{level}","event":'.encode() + _json(name)
    return head + (b"," + fields[1:] if event else b"}") + b"\n", when, fields


def _as_text(when: str, level: str, name: str, event: EventDict, fields: bytes) -> str:
    """Return the line for people."""
    if "logger" in event:  # Where in a library it was said interests nobody at a console.
        del event["logger"]
        fields = _json(event)
    text = f"{name} {fields.decode()}" if event else name
    if not text.isprintable():  # What could forge a second line or steer a terminal.
        text = text.encode("unicode_escape").decode()
    return f"{when}Z {level} {text}\n"


def _in_ascii(line: bytes) -> str:
    """Return the same record in characters that any console can write and none obeys."""
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
        # Lone surrogates and large numbers: slower, but a log may refuse nothing.
        try:
            return json.dumps(value, default=str, skipkeys=True).encode()
        except Exception as error:  # noqa: BLE001 - whatever a field's own `str` raises
            # Nor may it fail those whose lines are rendered with this one.
            return orjson.dumps({"unloggable": type(error).__name__})


def info(name: str, fields: EventDict) -> None:
    """Log as `log.info` does, but with nothing added to the fields, and for less.

    For what is logged once per request, where structlog takes as long as all the rest of a line.
    """
    if _sink is not None and _sink.takes_info:
        _sink.msg((time.time_ns(), "info", name, fields))


@atexit.register
def flush() -> None:
    """Write what waits to be written."""
    if _sink is not None:
        _sink.flush()


def configure(settings: Settings) -> None:
    """Send every log of this process where the settings say: to the console, and to the file.

    Raises StartupError if there can't be such a file.
    """
    # A logger that is looked up at each use takes as long as its line.
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
    # It says which dialect it talks to, and each plugin that it loads.
    for name in ("alembic.runtime.migration", "alembic.runtime.plugins"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "sqlalchemy", "alembic"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
