"""Booking, waiting and cancelling through the API."""

from tests.people import Visitor


async def test_a_cancelled_place_goes_to_the_head_of_the_waiting_list(visitor: Visitor) -> None:
    organiser, first, second, third = [await visitor.register() for _ in range(4)]
    event = await organiser.organise(total=1)

    booked = await first.book(event)
    assert booked.status_code == 201
    assert booked.json() == {
        "id": booked.json()["id"],
        "eventId": event,
        "userId": first.id,
        "status": "booked",
        "createdAt": booked.json()["createdAt"],
        "quantity": 1,
        "amount": 0,
        "currency": None,
        "expiresAt": None,
        "position": None,
        "promoted": None,
        "refund": None,
    }
    for place, person in enumerate((second, third), start=1):
        waiting = await person.book(event)
        assert waiting.status_code == 202
        assert (waiting.json()["status"], waiting.json()["position"]) == ("waiting", place)

    cancelled = await first.cancel(event)
    assert cancelled.status_code == 200
    assert cancelled.json() == booked.json() | {"status": "cancelled", "promoted": 1, "refund": 0}
    again = await first.cancel(event)
    assert again.json() == cancelled.json() | {"promoted": 0, "refund": 0}

    mine = (await second.get("/api/users/me/bookings")).json()["items"]
    assert [item["status"] for item in mine] == ["booked"]
    shown = await visitor.event(event)
    assert (shown["availableTickets"], shown["waitingListCount"]) == (0, 1)
