"""Coverage that looks which greenlet runs only while one runs. Python imports this as it starts.

Coverage does so at each call and each return, in Python, which takes half of what it costs.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coverage.collector import Collector


def measure_faster() -> None:
    """Do it in this process, with coverage that runs and that will. Before SQLAlchemy connects."""
    import greenlet  # type: ignore[import-untyped]  # noqa: PLC0415 - not without coverage
    from coverage.collector import Collector  # noqa: PLC0415

    start = Collector._start_tracer

    def started(self: "Collector") -> Any:  # noqa: ANN401
        traced = start(self)
        self.tracers[-1].concur_id_func = None  # type: ignore[attr-defined]
        return traced

    def apart(enter: Callable[..., object], *args: object, **kwargs: object) -> object:
        tracer: Any = sys.gettrace()
        if not hasattr(tracer, "concur_id_func"):
            return enter(*args, **kwargs)
        tracer.concur_id_func = greenlet.getcurrent
        try:
            return enter(*args, **kwargs)
        finally:
            tracer.concur_id_func = None

    class Measured(greenlet.greenlet):  # type: ignore[misc]
        """Its calls are on a stack of their own, all others on one."""

        def switch(self, *args: object, **kwargs: object) -> object:
            return apart(super().switch, *args, **kwargs)

        def throw(self, *args: object) -> object:
            return apart(super().throw, *args)

    Collector._start_tracer = started  # type: ignore[method-assign]
    for tracer in (each for of in Collector._collectors for each in of.tracers):
        tracer.concur_id_func = None  # type: ignore[attr-defined]
    greenlet.greenlet = Measured


if __name__ == "sitecustomize" and "coverage.collector" in sys.modules:
    measure_faster()
