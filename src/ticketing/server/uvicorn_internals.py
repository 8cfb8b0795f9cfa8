"""The parts of uvicorn that are used but not public. Check them at an upgrade.

Tested with version TESTED. `protocol.BoundedProtocol` is a subclass of HttpToolsProtocol and needs
the attributes and methods in OF_PROTOCOL. `serving.Server` is a subclass of Server and needs those
in OF_SERVER. A test checks that they exist.
"""

from typing import Final

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

TESTED: Final = "0.54"

OF_PROTOCOL: Final = (
    *(
        "app",
        "client",
        "config",
        "connections",
        "cycle",
        "expect_100_continue",
        "flow",
        "headers",
        "loop",
    ),
    *("parser", "pipeline"),
    *("scope", "server_state", "tasks", "timeout_keep_alive", "timeout_keep_alive_task"),
    *("transport", "url"),
    *("connection_made", "connection_lost", "data_received", "eof_received", "on_header"),
    *("on_headers_complete", "on_message_begin", "on_message_complete", "on_response_complete"),
    *("pause_writing", "resume_writing", "shutdown", "timeout_keep_alive_handler"),
    "_unset_keepalive_if_required",
)
"""`on_response_complete` is called at the end of a response, and starts the next request."""
OF_CYCLE: Final = (
    *("disconnected", "keep_alive", "message_event", "response_complete", "response_started"),
)
OF_FLOW: Final = ("read_paused", "write_paused", "pause_reading", "resume_reading")
OF_STATE: Final = ("connections", "default_headers", "tasks", "total_requests")
OF_SERVER: Final = (
    *("config", "handle_exit", "lifespan", "on_tick", "run", "server_state", "servers"),
    *("should_exit", "shutdown", "started", "startup"),
)

__all__ = ["STATUS_LINE", "FlowControl", "HttpToolsProtocol", "RequestResponseCycle", "ServerState"]
