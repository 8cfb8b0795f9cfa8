"""The requests and the errors of a page."""

from playwright.async_api import Page

PATIENCE = 60_000
"""Milliseconds that one action on a page may take."""


class Traffic:
    """The requests of a page with their results, and its errors."""

    def __init__(self, page: Page) -> None:
        self.outcomes: dict[str, int | str | None] = {}
        """The status of every address, or the reason why there is none."""
        self.complaints: list[str] = []
        page.on("request", lambda request: self.outcomes.setdefault(request.url, None))
        page.on("response", lambda answer: self.outcomes.update({answer.url: answer.status}))
        page.on("requestfailed", lambda failed: self.outcomes.update({failed.url: failed.failure}))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self._hear(said.type, said.text))

    def _hear(self, kind: str, text: str) -> None:
        if kind == "error":
            self.complaints.append(text)

    def besides(self, url: str) -> dict[str, int | str | None]:
        """Return all that was not served well by the service at `url` or the page itself."""
        own = (f"{url}/", f"blob:{url}/", "data:")
        return {
            address: outcome
            for address, outcome in self.outcomes.items()
            if not (address.startswith(own) and outcome == 200)
        }
