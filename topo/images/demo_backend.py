"""The mission's backend in real Flask, served by Flask's own server as its image does.

Runs in a pod, under the demo's Python: it may import nothing of the house but ``population``.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from flask import Flask

from topo.images.population import PAGES, POPULATION

PORT = 5000


def application() -> Any:
    """The little database and its pages."""
    app = Flask("backend")
    app.json.sort_keys = False

    app.add_url_rule("/data", "data", lambda: POPULATION, methods=["GET", "POST"])
    for path, page in PAGES.items():
        app.add_url_rule(path, path, lambda page=page: page)
    return app


if __name__ == "__main__":
    if os.environ.get("KILL_IN_SECONDS"):
        threading.Timer(float(os.environ["KILL_IN_SECONDS"]), lambda: os._exit(1)).start()
    application().run(host="0.0.0.0", port=PORT, threaded=True)
