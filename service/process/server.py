"""The server process: its sockets, its signals and its end."""

import asyncio
import contextlib
import functools
import gc
import ipaddress
import logging
import math
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Generator, Mapping
from pathlib import Path
from typing import Any, Literal

import uvicorn
import uvloop
from fastapi import FastAPI
from prometheus_client import disable_created_metrics

from relevance.errors import MachineError
from relevance.tasks import Task
from service.api.admin.app import check_admin, create_admin_app
from service.api.admin.bundle_folders import bundle_roots
from service.api.app import create_app
from service.auth.key_file import read_keys
from service.lifecycle.service import Service
from service.process.http_protocol import GuardedConnection, IdleConnections
from service.process.tls import tls_options
from service.scoring.served_model import OpenEngine, open_engine
from service.settings import Settings

log = logging.getLogger(__name__)

BACKLOG = 2048
WATCH_SECONDS = 0.25
SWITCH_SECONDS = 0.001  # maximum wait of the event loop and the inference threads for the GIL
COLLECT_AFTER = (10_000, 20, 50)  # rarely: Python's cycle collector scans all caches, which is slow


class _Server(uvicorn.Server):
    """uvicorn without its signal handling, which would end the process by the signal and not with status 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def serve(settings: Settings, bundles: Mapping[Task, Path], open_engine: OpenEngine = open_engine) -> None:
    """Serve until SIGTERM or SIGINT. Raises MachineError for a taken port and whatever made loading fail."""
    check_files(settings)
    check_admin(settings)
    listener = bind(settings.host, settings.port)  # first, so that a port in use fails at once
    listener.listen(BACKLOG)
    url = _url(listener, "https" if settings.tls_certificate else "http")
    if settings.api_keys is None:
        _warn_if_open(settings, listener, url)

    def ready() -> None:
        tasks = [task.value for task in bundles]
        log.info(f"ready at {url}", extra={"url": url, "tasks": tasks})

    with contextlib.closing(listener):
        _prepare()
        app = create_app(settings, bundles, open_engine)
        serving = _serve(settings, app, listener, ready)
        _run(serving if settings.admin_port is None else _serve_beside_admin(settings, bundles, app, serving))


def check_files(settings: Settings) -> None:
    """Raise ConfigError where a file of the settings is not valid: keys, certificates."""
    tls_options(settings)
    if settings.api_keys is not None:
        read_keys(settings.api_keys)


async def _serve_beside_admin(
    settings: Settings, bundles: Mapping[Task, Path], app: FastAPI, serving: Coroutine[Any, Any, None]
) -> None:
    """Serve the admin interface while `serving` runs."""
    with (
        contextlib.closing(serving),
        contextlib.closing(bind(settings.admin_host, settings.admin_port or 0, setting="admin_port")) as listener,
    ):
        listener.listen(BACKLOG)
        admin_app = create_admin_app(app.state.service, bundle_roots(settings, bundles.values()))
        server = _Server(_config(admin_app, settings, lifespan="off"))
        administering = asyncio.create_task(server.serve(sockets=[listener]))
        url = _url(listener, "https" if settings.tls_certificate else "http")
        log.info(f"admin interface at {url}", extra={"url": url})
        try:
            await serving
        finally:
            server.should_exit = True
            await administering


def _prepare() -> None:
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(*COLLECT_AFTER)
    disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the number of series


def _run(serving: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving)


def _warn_if_open(settings: Settings, listener: socket.socket, url: str) -> None:
    """Log that a service without API keys is open: a warning if other machines reach it without a certificate."""
    may = "may call, and read the reports (open_reports)" if settings.open_reports else "may call"
    if _is_local(listener) or settings.tls_client_ca is not None:
        log.info(f"no API keys are set: whoever reaches the port {may}")
    else:
        log.warning(
            f"no API keys are set: everybody who reaches {url} {may}; expected api_keys (docs/security.md), or host "
            "127.0.0.1"
        )


def _is_local(listener: socket.socket) -> bool:
    address = ipaddress.ip_address(listener.getsockname()[0].partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def bind(host: str, port: int, setting: str = "--port") -> socket.socket:
    """Return a socket with this address; `setting` is the name of the port's setting in errors.

    Raises MachineError where the address is in use or is not of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise MachineError(f"host {host}: {error.strerror or error}; expected an address of this machine") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise MachineError(f"port {port} on {host}: {error.strerror}; expected a free port ({setting})") from None
    return listener


async def _serve(settings: Settings, app: FastAPI, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until a signal; call `ready` once the bundles are loaded."""
    service: Service = app.state.service
    server = _Server(_config(app, settings, lifespan="on"))
    _handle_signals(server, service, settings.drain_seconds)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    settled = asyncio.create_task(service.settled.wait())
    await asyncio.wait({serving, settled}, return_when=asyncio.FIRST_COMPLETED)
    settled.cancel()
    gc.freeze()  # what is loaded now stays: the collector does not scan it
    if service.failure is not None:
        server.should_exit = True
    elif not serving.done():
        ready()
    watching = asyncio.create_task(_end_when_dead(server, service, settings.end_when_dead_seconds))
    await serving
    if watching.done():
        raise MachineError("a model can no longer score; see the log")
    watching.cancel()
    if service.failure is not None:
        raise service.failure
    log.info("stopped")


async def _end_when_dead(server: uvicorn.Server, service: Service, seconds: float) -> None:
    """End a service that has been unable to score for `seconds`; 0: never."""
    since = math.inf
    while not seconds or time.monotonic() - since < seconds:
        await asyncio.sleep(WATCH_SECONDS)
        dead = service.dead and not service.draining
        since = min(since, time.monotonic()) if dead else math.inf
    log.error(f"a model could not score for {seconds:g} s: the service ends, to be started again")
    server.should_exit = True


def _config(app: FastAPI, settings: Settings, lifespan: Literal["on", "off"]) -> uvicorn.Config:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    idle = settings.max_idle_connections
    if files != resource.RLIM_INFINITY:
        idle = min(idle, files // 2)
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan=lifespan,
        backlog=BACKLOG,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=round(settings.finish_seconds),
        http=functools.partial(GuardedConnection, idle=IdleConnections(idle)),  # type: ignore[arg-type]
        ws="none",
        proxy_headers=False,
        **tls_options(settings),
    )


def _handle_signals(server: uvicorn.Server, service: Service, drain_seconds: float) -> None:
    """SIGTERM: not ready, stop accepting after `drain_seconds`, finish. SIGINT, or a second signal: stop at once."""
    loop = asyncio.get_running_loop()

    def stop(name: str, wait: float) -> None:
        if service.draining:
            wait = 0
        service.draining = True
        log.info(f"{name}: draining", extra={"drain_seconds": wait})
        loop.call_later(wait, setattr, server, "should_exit", True)

    loop.add_signal_handler(signal.SIGTERM, stop, "SIGTERM", drain_seconds)
    loop.add_signal_handler(signal.SIGINT, stop, "SIGINT", 0.0)


def _url(listener: socket.socket, scheme: str) -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
