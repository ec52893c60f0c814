"""The container engine: one connection a process, and every way to lose it as one fault."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException

from harness.errors import EnvironmentFault

LOST = (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError)
"""What the client raises when the engine is gone or does not answer."""
_ANSWER_S = 60
"""Longest wait for an answer of the engine."""


class LostEngineFault(EnvironmentFault):
    """The engine went away; nothing it did or did not do says anything about a side."""


@cache
def connect() -> docker.DockerClient:
    """The connection of this process, which is made at the first call.

    Raises:
        EnvironmentFault: No engine answers, or it is not on this machine.
    """
    with engine_faults("no container engine answers"):
        client = docker.from_env(timeout=_ANSWER_S)
        client.ping()
    if not client.api.base_url.startswith("http+docker://"):
        raise EnvironmentFault(
            f"the container engine at {client.api.base_url} is on another machine, so it cannot "
            "see the folders of this one\nUnset DOCKER_HOST, or use --sandbox process"
        )
    return client


@cache
def watch() -> threading.Event:
    """Set once the engine that answers now goes away, were it back at once.

    An engine that is stopped ends its containers first, and reports how they ended as if they had
    done so themselves; only a connection that breaks tells.
    """
    gone, api = threading.Event(), connect().api
    with engine_faults("the container engine cannot be watched"):
        stream = api.events(filters={"type": "daemon"})

    def listen() -> None:
        with suppress(*LOST):
            for _ in stream:
                pass
        gone.set()

    threading.Thread(target=listen, name="engine", daemon=True).start()
    return gone


def answers() -> bool:
    """Whether there is an engine here."""
    try:
        connect()
    except EnvironmentFault:
        return False
    return True


def reconnect() -> docker.DockerClient:
    """A new connection in place of one that broke.

    Raises:
        EnvironmentFault: No engine answers.
    """
    forget()
    return connect()


def forget() -> None:
    """Drop the connection; the next call makes another."""
    if connect.cache_info().currsize:
        connect().close()
    connect.cache_clear()
    watch.cache_clear()


@contextmanager
def engine_faults(what: str, advice: str = "") -> Iterator[None]:
    """Turn what the client raises into a message that begins with ``what``.

    A refusal ends with ``advice``; of a lost engine it is always the same.

    Raises:
        LostEngineFault: The engine went away or does not answer.
        EnvironmentFault: It answers, and refuses.
    """
    try:
        yield
    except APIError as error:
        said = f"{what}: {error.explanation or error}"
        raise EnvironmentFault("\n".join(filter(None, (said, advice)))) from error
    except (*LOST, DockerException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LostEngineFault(
            f"{what}: {reason}\nCheck it with docker info, or do without it: --sandbox process"
        ) from error
