"""What a restarted or absent API server is told of our progress."""

from __future__ import annotations

from controller.kubeproxy import hub
from controller.kubeproxy.progress import Reporter


class Deaf:
    """A side channel that fails the first times."""

    def __init__(self, failures: int) -> None:
        self.failures, self.told = failures, hub.Queue()

    def progress(self, component: str, resource_version: int) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("nobody there")
        self.told.put((component, resource_version))


def test_progress_is_told_later_when_the_api_server_is_away_and_only_the_newest():
    deaf = Deaf(failures=2)
    reporter = Reporter(deaf, longest_pause=0.01)
    for version in (1, 2, 3):
        reporter.report("node1", version)
    thread = hub.spawn(reporter.run)
    try:
        assert deaf.told.get(timeout=10) == ("kubeproxy/node1", 3)
        assert deaf.told.empty()
    finally:
        thread.kill()
        thread.wait()
