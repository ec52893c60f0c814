"""A hub on this machine: one repository, one commit, as huggingface_hub asks for them."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves ``files`` of ``repository``; ``status`` other than 200 is what every request gets."""

    def __init__(self, repository, files):
        self.repository, self.files = repository, dict(files)
        self.status, self.error_code = 200, ""
        self.commit, self.token = COMMIT, ""
        self.digests = {}
        """What the hub says a file's digest is, where that is not what it sends."""
        self.requests = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        """Be gone."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path, authorization=""):
        """Status, headers and body of a request."""
        if self.token and self.token not in authorization:
            return 401, {"X-Error-Code": "GatedRepo"}, b""
        if self.status != 200:
            return self.status, {"X-Error-Code": self.error_code}, b""
        if path.startswith(f"/api/models/{self.repository}"):
            return 200, {"Content-Type": "application/json"}, self._info()
        prefix = f"/{self.repository}/resolve/{COMMIT}/"
        name = path.removeprefix(prefix)
        if not path.startswith(prefix) or name not in self.files:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        body = self.files[name]
        etag = hashlib.sha256(body).hexdigest()
        return 200, {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'}, body

    def _info(self):
        siblings = [
            {
                "rfilename": name,
                "size": len(body),
                "lfs": {
                    "sha256": self.digests.get(name, hashlib.sha256(body).hexdigest()),
                    "size": len(body),
                    "pointerSize": 1,
                },
            }
            for name, body in self.files.items()
        ]
        return json.dumps(
            {"id": self.repository, "sha": self.commit, "siblings": siblings}
        ).encode()

    def _handler(self):
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self._send(with_body=True)

            def do_HEAD(self):
                self._send(with_body=False)

            def log_message(self, *_):
                """Tests read no access log."""

            def _send(self, *, with_body):
                path = self.path.partition("?")[0]
                hub.requests.append((self.command, path))
                status, headers, body = hub.answer(path, self.headers.get("Authorization", ""))
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if with_body:
                    self.wfile.write(body)

        return Handler
