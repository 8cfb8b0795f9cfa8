"""Operations of a history, as the fault harness records them."""

from typing import Any

from chaos.history import Operation

EVENT = 1


def book(  # noqa: PLR0913 - so many parts
    user: str, start: float, end: float, status: int = 201, *, row: str = "", position: int = 0
) -> Operation:
    answer: dict[str, Any] = {"status": status, "id": row or f"{user}1"}
    if status == 202:
        answer["position"] = position
    return Operation("book", EVENT, user, start, end, answer)


def cancel(user: str, start: float, end: float, *, row: str = "", promoted: int = 0) -> Operation:
    answer = {"status": 200, "id": row or f"{user}1", "promoted": promoted}
    return Operation("cancel", EVENT, user, start, end, answer)


def read(start: float, end: float, available: int, waiting: int) -> Operation:
    seen = {"status": 200, "available": available, "waiting": waiting}
    return Operation("read", EVENT, "", start, end, seen)
