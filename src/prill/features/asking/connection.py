"""Connections that give up in time even where a server sends its headers a byte at a time.

The library's timeout is for each single read; a server that trickles could hold a request for ever.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import urllib.request
from typing import Any, Final

__all__ = ["open_request"]

_LONGEST_S: Final = 3_600.0


class _Hurried:
    """Shuts its socket when the head of an answer is not there within the timeout."""

    sock: Any
    timeout: float | None

    def getresponse(self) -> http.client.HTTPResponse:
        watch = threading.Timer(self.timeout or _LONGEST_S, _shut, [self.sock])
        watch.daemon = True
        watch.start()
        try:
            found: http.client.HTTPResponse = super().getresponse()  # type: ignore[misc]
        finally:
            watch.cancel()
        return found


class _Http(_Hurried, http.client.HTTPConnection):
    pass


class _Https(_Hurried, http.client.HTTPSConnection):
    pass


class _HttpHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Http, req)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Https, req, context=getattr(self, "_context", None))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        return None


def open_request(request: urllib.request.Request, timeout_s: float) -> Any:
    """The response to a request, redirects not followed.

    Raises:
        OSError, http.client.HTTPException: there is no connection, or no head of an answer in time.
    """
    opener = urllib.request.build_opener(_NoRedirect, _HttpHandler, _HttpsHandler)
    return opener.open(request, timeout=timeout_s)


def _shut(connected: socket.socket | None) -> None:
    if connected is not None:
        with contextlib.suppress(OSError):  # closed in the meantime
            socket.socket.shutdown(connected, socket.SHUT_RDWR)
