import pytest


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that are started run at full speed: what they do is measured by other tests."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
