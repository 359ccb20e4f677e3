"""As much of a Kubernetes API on loopback as takes a job in and says that it is done; no cluster."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml


class KubernetesServer:
    """`with KubernetesServer() as server: ...`; `server.jobs` are the manifests it was sent, as JSON came.

    Every job is reported as done at once, and its last file is made where `makes` says, so that the next one is sent.
    """

    def __init__(self, makes) -> None:
        self.jobs: list[dict] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path.split("?")[0].endswith("/jobs"):
                    outer.jobs.append(content)
                    makes(content)
                self.answer(content)

            def do_GET(self) -> None:
                if "/pods" in self.path:
                    self.answer({"apiVersion": "v1", "kind": "PodList", "items": []})
                else:
                    self.answer({"metadata": {"name": "job"}, "status": {"succeeded": 1}})

            def do_DELETE(self) -> None:
                self.answer({"status": "Success"})

            def answer(self, content: dict) -> None:
                body = json.dumps(content).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> "KubernetesServer":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def write_config(self, path: Path) -> None:
        """A kubeconfig that leads here."""
        address = f"http://127.0.0.1:{self.server.server_port}"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": address}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "users": [{"name": "test", "user": {"token": "none"}}],
        }
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
