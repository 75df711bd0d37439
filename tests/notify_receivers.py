"""Receivers of messages to operators, on real sockets: a webhook's, and syslog on streams."""

import http.server
import socket
import threading


class Receiver:
    """A webhook's receiver: answers with the statuses of `script`, then 200, and keeps every request."""

    def __init__(self, script=(), tls=None, headers=None):
        self.requests = []
        self.script = list(script)
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append((self.path, dict(self.headers), body))
                self.send_response(outer.script.pop(0) if outer.script else 200)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


class StreamReceiver:
    """A syslog receiver on TCP or TLS: reads each connection to its end; `breaks` resets the first ones unread."""

    def __init__(self, tls=None, breaks=0):
        self.streams = []
        self.breaks = breaks
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                opened, _ = self._listener.accept()
            except OSError:
                return
            with opened:
                try:
                    self._read(opened)
                except OSError:
                    self.streams.append(None)

    def _read(self, opened):
        if self.breaks:
            self.breaks -= 1
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return
        if self._tls is not None:
            opened = self._tls.wrap_socket(opened, server_side=True)
        with opened:
            stream = b""
            while part := opened.recv(4096):
                stream += part
            self.streams.append(stream)

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
