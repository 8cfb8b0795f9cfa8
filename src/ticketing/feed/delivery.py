"""Delivering to webhooks: in any number of processes, and never twice at the same time."""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import UUID

from prometheus_client import Counter, Gauge

from ticketing.db.ids import uuid7
from ticketing.errors import TicketingError
from ticketing.feed.batches import Batch, Delivery, Hook, Result, Tried
from ticketing.feed.calling import CONNECTIONS, GONE, Called, Caller, Network, calling
from ticketing.feed.following import Follower
from ticketing.feed.places import Places
from ticketing.feed.repositories.deliveries import AT_ONCE, RENEW, DeliveryRepository
from ticketing.feed.repositories.webhooks import Shown, WebhookRepository
from ticketing.feed.retrying import SCHEDULE, pause
from ticketing.feed.signing import signed
from ticketing.feed.told import TEST, encoded, test_document
from ticketing.ops import logs
from ticketing.ops.metrics import LATEST

LOOK: Final = 1.0
"""Seconds after which webhooks that are due are looked for, if nothing happens."""
COUNT: Final = 10.0
"""Seconds after which the backlog is counted."""
REST: Final = 2.0
"""Seconds between two looks while there is no webhook at all."""
CLOSING: Final = 2.0
"""Seconds in which receivers may still respond when the process stops."""
A_FEW: Final = 2 * CONNECTIONS
"""Events that are delivered before the next turn, while slow webhooks wait for each other."""
IN_VAIN: Final = 5
"""After so many failures without a success, the rest of a batch is not tried."""
UNREADABLE: Final = "its secret can't be read any more: make another one"

DELIVERIES: Final = Counter(
    "ticketing_webhook_deliveries_total",
    "Tries to deliver to webhooks: delivered, failed, unreachable, gone.",
    ["outcome"],
)
ASIDE: Final = Gauge(
    "ticketing_webhook_set_aside",
    "Events that webhooks did not accept, and that are tried again.",
    multiprocess_mode=LATEST,
)
BACKLOG: Final = Gauge(
    "ticketing_webhook_backlog",
    "Numbers of trail records between the last one and the slowest webhook that is served.",
    multiprocess_mode=LATEST,
)


class _Sent(NamedTuple):
    tried: list[Tried]
    failed: list[Delivery]
    """Tried in vain."""
    skipped: list[Delivery]
    """Not tried, because of an earlier failure."""


class Deliverer:
    """Delivers to webhooks. Start `run` as a task, and call `close` at the end."""

    def __init__(  # noqa: PLR0913 - the last three differ in tests
        self,
        deliveries: DeliveryRepository,
        follower: Follower,
        networks: Sequence[Network],
        schedule: Sequence[float] = SCHEDULE,
        look: float = LOOK,
        *,
        places: Places | None = None,
    ) -> None:
        """Allow `networks` besides public addresses. `schedule`: see `retrying.pause`.

        Webhooks that are due are looked for every `look` seconds, while `places` has room.
        """
        self._deliveries = deliveries
        self._follower = follower
        self._networks = networks
        self._schedule = schedule
        self._look = look
        self._places = places or Places()
        self._serving: dict[UUID, tuple[Hook, asyncio.Task[None]]] = {}
        """By lease."""
        self._stopping = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to deliver, in a task of its own, unless that is under way."""
        is_over = self._running is None or self._running.done()
        if is_over and not self._stopping.is_set():
            self._running = asyncio.create_task(self._run(), name="webhooks")

    async def close(self) -> None:
        """Stop: receivers may respond for a moment, and what they do not is sent again."""
        self._stopping.set()
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
        serving = dict(self._serving)
        if serving:
            tasks = [task for _, task in serving.values()]
            _, late = await asyncio.wait(tasks, timeout=CLOSING)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
            with contextlib.suppress(TicketingError):
                await self._deliveries.release([hook for hook, _ in serving.values()])

    async def _run(self) -> None:
        """Take webhooks as they become due, or as something happens, and serve each in a task."""
        is_failing = False
        while True:
            try:
                if not await self._deliveries.any_active():
                    await asyncio.sleep(REST)
                    continue
                await self._follow()
                is_failing = False
            except Exception as error:  # noqa: BLE001 - the next attempt may succeed
                if not is_failing:
                    is_bug = not isinstance(error, TicketingError)
                    logs.log.warning(
                        "loop.failing", loop="webhooks", reason=str(error), exc_info=is_bug
                    )
                is_failing = True
                await asyncio.sleep(REST)

    async def _follow(self) -> None:
        """Do so until there is no webhook any more."""
        asked = renewed = time.monotonic()
        with self._follower.listening(None) as listener:
            while True:
                await self._take(listener.taken())
                if self._serving and time.monotonic() - renewed > RENEW:
                    renewed = time.monotonic()
                    await self._deliveries.renew([hook for hook, _ in self._serving.values()])
                if time.monotonic() - asked > COUNT:
                    asked = time.monotonic()
                    aside, behind = await self._deliveries.backlog()
                    ASIDE.set(aside)
                    BACKLOG.set(behind)
                    if not await self._deliveries.any_active():
                        return
                await listener.wait(self._look)

    async def _take(self, events: frozenset[int] | None) -> None:
        """Serve webhooks for which there is room, of those that are due or have these events."""
        slow, room = self._places.slow(), self._places.room()
        is_full = False
        for is_slow, limit in ((False, room.quick), (True, room.slow)):
            hooks = await self._deliveries.claim(events, slow, is_slow=is_slow, limit=limit)
            for hook in hooks:
                self._serve(hook)
            is_full = is_full or len(hooks) == limit
        if is_full:
            await self._deliveries.fall_due(events)

    def _serve(self, hook: Hook) -> None:
        self._places.take(hook.lease, hook.id)
        task = asyncio.create_task(self._deliver(hook), name="webhook")
        self._serving[hook.lease] = hook, task

        def done(ended: asyncio.Task[None]) -> None:
            del self._serving[hook.lease]
            if not ended.cancelled() and (error := ended.exception()) is not None:
                is_bug = not isinstance(error, TicketingError)
                logs.log.warning(
                    "webhook.interrupted",
                    webhookId=hook.id,
                    reason=str(error),
                    exc_info=error if is_bug else None,
                )

        task.add_done_callback(done)

    async def _deliver(self, hook: Hook) -> None:
        """Deliver everything that is due to one webhook, batch by batch, or until others wait."""
        was_called = False
        try:
            async with calling(self._networks) as caller:
                current: Hook | None = hook
                while current is not None and not self._stopping.is_set():
                    if self._places.gives_way(current.lease):
                        await self._deliveries.release([current])
                        return
                    limit = A_FEW if self._places.is_crowded else AT_ONCE
                    batch = await self._deliveries.batch(current, limit)
                    if not batch.due and not batch.waiting:
                        await self._deliveries.rest(current, batch.position)
                        # A record that was seen before this webhook rested has not woken it.
                        if self._follower.seen > batch.position:
                            await self._deliveries.wake(current)
                        return
                    was_called = was_called or bool(batch.due)
                    current = await self._batch(current, batch, caller)
        finally:
            self._places.leave(hook.lease, was_called=was_called)

    async def _batch(self, hook: Hook, batch: Batch, caller: Caller) -> Hook | None:
        """Deliver a batch and record the result. Return the webhook if there may be more."""
        sent = _Sent([], [], list(batch.due))
        if hook.secrets:
            sent = await self._send(hook, batch.due, caller)
        result = self._result(hook, batch, sent)
        now, state = await self._deliveries.note(hook, result)
        told = {"webhookId": hook.id, "userId": hook.user_id}
        if state == "disabled":
            logs.log.warning("webhook.disabled", **told, reason=result.error)
        elif state is not None and result.pause is not None and not hook.is_paused:
            logs.log.warning("webhook.failing", **told, reason=result.error)
        elif now is not None and hook.is_paused and result.delivered:
            logs.log.info("webhook.recovered", **told)
        return now

    def _result(self, hook: Hook, batch: Batch, sent: _Sent) -> Result:
        """Return what to record."""
        delivered = any(each.is_delivered for each in sent.tried)
        failures = [_error(each) for each in sent.tried if not each.is_delivered]
        gone = any(each.status == GONE for each in sent.tried) or not hook.secrets
        if not hook.secrets:
            failures.append(UNREADABLE)
        # One that fails alone says little about the receiver.
        in_vain = not delivered and (len(failures) >= IN_VAIN or (failures and hook.is_paused))
        return Result(
            sent.tried,
            [
                *((each, 0.0) for each in batch.waiting),
                *((each, 0.0) for each in sent.skipped),
                *(
                    (each._replace(tries=each.tries + 1), pause(each.tries + 1, self._schedule))
                    for each in sent.failed
                ),
            ],
            batch.position,
            delivered,
            failures[-1] if failures else None,
            pause(hook.tries + 1, self._schedule) if in_vain or gone else None,
            gone,
        )

    async def _send(self, hook: Hook, due: Sequence[Delivery], caller: Caller) -> _Sent:
        """Send what is due: what is about one thing in order, everything else at the same time."""
        lanes: dict[str, list[Delivery]] = defaultdict(list)
        for each in due:
            lanes[each.about].append(each)
        result = _Sent([], [], [])
        waiting = list(reversed(lanes.values()))
        delivered = 0

        async def work() -> None:
            nonlocal delivered
            while waiting:
                lane = waiting.pop()
                for place, each in enumerate(lane):
                    is_vain = not delivered and len(result.failed) >= IN_VAIN
                    if is_vain or self._stopping.is_set():
                        result.skipped.extend(lane[place:])
                        break
                    tried = await attempt(caller, hook.url, hook.secrets, str(each.record), each)
                    result.tried.append(tried)
                    if not tried.is_delivered:
                        result.failed.append(each)
                        result.skipped.extend(lane[place + 1 :])
                        break
                    delivered += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(min(CONNECTIONS, len(lanes))):
                group.create_task(work())
        return result


async def attempt(
    caller: Caller, url: str, secrets: Sequence[str], message_id: str, delivery: Delivery
) -> Tried:
    """Try to deliver, signed anew."""
    at = datetime.now(UTC)
    headers = signed(
        delivery.body, message_id=message_id, timestamp=int(at.timestamp()), keys=secrets
    )
    headers["webhook-attempt"] = str(delivery.tries + 1)
    called = await caller.call(url, delivery.body, headers)
    DELIVERIES.labels(_outcome(called)).inc()
    return Tried(
        delivery,
        message_id,
        at,
        called.status,
        called.error,
        called.milliseconds,
        called.is_delivered,
    )


def _outcome(called: Called) -> str:
    if called.is_delivered:
        return "delivered"
    if called.status == GONE:
        return "gone"
    return "unreachable" if called.status is None else "failed"


def _error(tried: Tried) -> str:
    return tried.error or f"HTTP {tried.status}"


class Tester:
    """Sends tests to webhooks."""

    def __init__(self, webhooks: WebhookRepository, networks: Sequence[Network]) -> None:
        """Allow `networks` besides public addresses."""
        self._webhooks = webhooks
        self._networks = networks

    async def send(self, user_id: UUID, webhook_id: UUID) -> Shown:
        """Send a test to one of the person's webhooks, once. Raises WebhookNotFound."""
        webhook, secrets = await self._webhooks.with_secrets(user_id, webhook_id)
        at = datetime.now(UTC)
        body = encoded(test_document(at, webhook.event_id))
        message_id = f"test_{uuid7().hex}"
        test = Delivery(0, TEST, TEST, body)
        async with calling(self._networks) as caller:
            tried = await attempt(caller, webhook.url, secrets, message_id, test)
        await self._webhooks.tested(webhook_id, tried)
        return Shown(message_id, TEST, 1, tried.at, tried.status, tried.error, tried.milliseconds)
