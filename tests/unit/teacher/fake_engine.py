"""Stands in for vLLM in tests of leases: a real process with a child, answering /health.

Files in the folder given steer it: it serves once `gate` exists (or at once, without --gated), and
with --slow-stop ends on SIGTERM only once `let-go` exists. Every start is a line in `starts`.
"""

from __future__ import annotations

import argparse
import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--gated", action="store_true")
    parser.add_argument("--slow-stop", action="store_true")
    parser.add_argument("--stubborn", action="store_true", help="ignore SIGTERM, as does the child")
    parser.add_argument("--fail", default="", help="print this and exit with 1")
    arguments = parser.parse_args()
    folder: Path = arguments.folder

    with (folder / "starts").open("a") as starts:
        starts.write(f"{os.getpid()}\n")
    if arguments.stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Like vLLM's EngineCore; --stubborn puts it where a signal to the group does not reach it.
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(10**6)"],
        start_new_session=arguments.stubborn,
    )
    (folder / "child").write_text(str(child.pid))
    if arguments.fail:
        print(f"(EngineCore pid=7) ERROR 11-21 04:40:32 [core.py:1] {arguments.fail}")
        print("RuntimeError: Engine core initialization failed. See root cause above.")
        child.kill()
        sys.exit(1)
    if not arguments.stubborn:
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=stop).start())

    def stop() -> None:
        while arguments.slow_stop and not (folder / "let-go").exists():
            time.sleep(0.01)
        child.kill()
        os._exit(0)

    while arguments.gated and not (folder / "gate").exists():
        time.sleep(0.01)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = str(os.getpid()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    http.server.ThreadingHTTPServer(("127.0.0.1", arguments.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
