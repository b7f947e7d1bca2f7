"""Addresses, connections, keys and error messages of HTTP servers: a judge's and an engine's."""

from __future__ import annotations

import json
import os
import re
import urllib.request

import urllib3

from mpo_games.checks import require_kind

CONNECT = 10.0
"""Seconds within which a connection must be made."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Hosts that no proxy can reach."""


def address(url: str, path: str = "") -> str:
    """The address `url` with `path` at its end; `$NAME` is read from that environment variable.

    `ValueError` unless it is one of HTTP, and for one that holds a password.
    """
    require_kind("url", url, str, "`http://127.0.0.1:8000/v1`")
    if url.startswith("$"):
        name = url[1:].strip("{}")
        url = os.environ.get(name, "")
        if not url:
            raise ValueError(f"`url` names the environment variable {name!r}, which is not set.")
    url = url.strip().rstrip("/").removesuffix(path) + path
    try:
        found = urllib3.util.parse_url(url)
    except urllib3.exceptions.LocationParseError:
        found = urllib3.util.Url()
    if found.scheme not in ("http", "https") or not found.host:
        raise ValueError(
            "`url` must be an address such as http://127.0.0.1:8000/v1, with http:// or https://."
        )
    if found.auth or found.query:
        raise ValueError(
            "`url` must not hold a password or a query: settings are written to files. Name the "
            "environment variable of the key by `key_env`."
        )
    return url


def pool(address: str, at_once: int, timeout: float | None) -> urllib3.PoolManager:
    """Connections that are kept and used again, by the proxy of the environment if it has one.

    `timeout` is the seconds without a byte of an answer after which a request fails; None is no
    such limit.
    """
    url = urllib3.util.parse_url(address)
    proxy = urllib.request.getproxies().get(url.scheme or "")
    host = (url.host or "").strip("[]")
    bypass = host in LOOPBACK or urllib.request.proxy_bypass(host)
    wait = urllib3.Timeout(connect=min(CONNECT, timeout or CONNECT), read=timeout)
    # Repetitions are our own, and a redirection could lead the key to another host.
    if proxy and not bypass:
        return urllib3.ProxyManager(proxy, maxsize=at_once, block=True, timeout=wait, retries=False)
    return urllib3.PoolManager(maxsize=at_once, block=True, timeout=wait, retries=False)


def message(content: bytes) -> str:
    """The words of an error, which most servers put into `error.message`, `message` or `detail`."""
    text = content.decode("utf-8", "replace")
    try:
        found = json.loads(text)
        inner = found.get("error", found)
        said = inner if isinstance(inner, str) else inner.get("message") or inner.get("detail")
        return str(said) if said else text
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return text or "an empty answer"


def secret(key_env: str | None) -> str:
    """The key in the environment variable `key_env`; empty for None.

    `ValueError` for a variable that is not set, and for anything that is no name of one.
    """
    if key_env is None:
        return ""
    # The messages never show the setting: somebody may have put the key itself there.
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key_env):
        raise ValueError("`key_env` must be the name of an environment variable, not the key.")
    found = os.environ.get(key_env, "").strip()
    if not found:
        raise ValueError("The environment variable that `key_env` names is not set: export it.")
    if not re.fullmatch(r"[!-~]+", found):
        raise ValueError("The key in the variable of `key_env` has characters beyond ASCII.")
    return found


def headers(key_env: str | None) -> dict[str, str]:
    """The headers of a request in JSON, with the key as a bearer token if there is one."""
    found = {"Content-Type": "application/json", "Accept": "application/json"}
    key = secret(key_env)
    return found | {"Authorization": f"Bearer {key}"} if key else found
