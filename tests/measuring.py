"""Coverage that looks which greenlet runs only while SQLAlchemy runs one.

Coverage does so at each call and each return, in Python, which takes half of what it costs.
"""

import sys
from collections.abc import Callable
from typing import Any, Final

from coverage.collector import Collector
from coverage.types import TTraceFn
from sqlalchemy.util import concurrency

_start: Final = Collector._start_tracer
_shim: Final = concurrency._concurrency_shim


def measure_faster() -> None:
    """Do it in this process, with coverage that runs and that will."""
    Collector._start_tracer = _started  # type: ignore[method-assign]
    for tracer in (each for of in Collector._collectors for each in of.tracers):
        tracer.concur_id_func = None  # type: ignore[attr-defined]
    _shim._AsyncIoGreenlet = _Measured


def _started(self: Collector) -> TTraceFn | None:
    traced = _start(self)
    self.tracers[-1].concur_id_func = None  # type: ignore[attr-defined]
    return traced


class _Measured(_shim._AsyncIoGreenlet):  # type: ignore[misc, name-defined]
    """A greenlet of SQLAlchemy. Its calls are on a stack of their own, all others on one."""

    def switch(self, *args: object, **kwargs: object) -> object:
        return _apart(super().switch, *args, **kwargs)

    def throw(self, *args: object) -> object:
        return _apart(super().throw, *args)


def _apart(enter: Callable[..., object], *args: object, **kwargs: object) -> object:
    tracer: Any = sys.gettrace()
    if not hasattr(tracer, "concur_id_func"):
        return enter(*args, **kwargs)
    tracer.concur_id_func = _shim.getcurrent
    try:
        return enter(*args, **kwargs)
    finally:
        tracer.concur_id_func = None
