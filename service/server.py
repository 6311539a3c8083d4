"""The process around the app: its socket, its signals and how it ends."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Generator, Mapping
from pathlib import Path

import uvicorn
from prometheus_client import disable_created_metrics

from relevance.errors import MachineError
from relevance.tasks import Task
from service.app import create_app
from service.settings import Settings
from service.state import Service

log = logging.getLogger(__name__)

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 75  # longer than load balancers keep idle connections, so that they close them and not we


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling, which would end the process by the signal and not with status 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def serve(settings: Settings, bundles: Mapping[Task, Path]) -> None:
    """Serve until SIGTERM or SIGINT. Raises MachineError for a taken port and whatever made loading fail."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the number of series
    listener = listen(settings.host, settings.port)  # before anything slow, so that a taken port shows at once
    with contextlib.closing(listener):
        asyncio.run(_serve(settings, bundles, listener))


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises MachineError where the address is taken or not of this machine."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise MachineError(f"host {host}: {error.strerror or error}; expected an address of this machine") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise MachineError(f"port {port} on {host}: {error.strerror}; expected a free port (--port)") from None
    return listener


async def _serve(settings: Settings, bundles: Mapping[Task, Path], listener: socket.socket) -> None:
    app = create_app(settings, bundles)
    service: Service = app.state.service
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=round(settings.finish_seconds),
        )
    )
    _handle_signals(server, service, settings.drain_seconds)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    settled = asyncio.create_task(service.settled.wait())
    await asyncio.wait({serving, settled}, return_when=asyncio.FIRST_COMPLETED)
    settled.cancel()
    if service.failure is not None:
        server.should_exit = True
    elif not serving.done():
        url = _url(listener)
        log.info(f"ready at {url}", extra={"url": url, "tasks": [task.value for task in bundles]})
    await serving
    if service.failure is not None:
        raise service.failure
    log.info("stopped")


def _handle_signals(server: uvicorn.Server, service: Service, drain_seconds: float) -> None:
    """SIGTERM: not ready, then after a while stop accepting and finish. SIGINT, or a second signal: stop at once."""
    loop = asyncio.get_running_loop()

    def stop(name: str, wait: float) -> None:
        if service.draining:
            wait = 0
        service.draining = True
        log.info(f"{name}: draining", extra={"drain_seconds": wait})
        loop.call_later(wait, setattr, server, "should_exit", True)

    loop.add_signal_handler(signal.SIGTERM, stop, "SIGTERM", drain_seconds)
    loop.add_signal_handler(signal.SIGINT, stop, "SIGINT", 0.0)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
