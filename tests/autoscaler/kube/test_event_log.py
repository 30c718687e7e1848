"""The same news once with a count, one write a second for each object, and a bound on both."""

from autoscaler.kube.event_log import MOST_KNOWN, MOST_PENDING, SAME_S, EventLog, EventWrite
from autoscaler.kube.news import EventReason

UP = EventReason.SCALED_UP


def reference(name: str = "chat") -> dict[str, str]:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "ml", "name": name}


def drain(log: EventLog, now_s: float) -> list[EventWrite]:
    writes = []
    while (write := log.next(now_s)) is not None:
        writes.append(write)
    return writes


def test_news_of_one_object_is_written_once_a_second_and_of_others_at_once() -> None:
    log = EventLog()
    for name, message in (("chat", "a"), ("chat", "b"), ("code", "c")):
        log.add(reference(name), UP, message, 10.0)
    assert [write.key[2] for write in drain(log, 10.0)] == ["a", "c"]
    assert drain(log, 10.9) == []
    assert [write.key[2] for write in drain(log, 11.0)] == ["b"]


def test_the_same_news_while_it_waits_is_counted() -> None:
    log = EventLog()
    for at_s in (10.0, 11.0, 12.0):
        log.add(reference(), UP, "a", at_s)
    [write] = drain(log, 12.0)
    assert (write.count, write.first_at_s, write.last_at_s, write.name) == (3, 10.0, 12.0, None)


def test_the_same_news_soon_after_counts_up_what_was_written() -> None:
    log = EventLog()
    log.add(reference(), UP, "a", 0.0)
    [first] = drain(log, 0.0)
    log.written(first, "chat.1")
    log.add(reference(), UP, "a", SAME_S)
    [second] = drain(log, SAME_S)
    assert (second.name, second.count) == ("chat.1", 2)
    log.written(second, "chat.1")
    log.add(reference(), UP, "a", 3 * SAME_S)
    [third] = drain(log, 3 * SAME_S)
    assert (third.name, third.count) == (None, 1)


def test_an_event_that_the_server_has_forgotten_is_written_anew() -> None:
    log = EventLog()
    log.add(reference(), UP, "a", 0.0)
    [first] = drain(log, 0.0)
    log.written(first, "chat.1")
    log.gone(first)
    log.add(reference(), UP, "a", 5.0)
    [second] = drain(log, 5.0)
    assert second.name is None


def test_a_clock_that_was_set_back_holds_nothing_up() -> None:
    log = EventLog()
    log.add(reference(), UP, "a", 1e6)
    drain(log, 1e6)
    log.add(reference(), UP, "b", 10.0)
    assert len(drain(log, 10.0)) == 1


def test_too_much_news_drops_the_oldest() -> None:
    log = EventLog()
    for number in range(MOST_PENDING + 5):
        log.add(reference(f"pool-{number}"), UP, "a", 0.0)
    assert log.dropped == 5
    assert [write.reference["name"] for write in drain(log, 0.0)][:1] == ["pool-5"]


def test_what_was_written_is_remembered_up_to_a_bound() -> None:
    log = EventLog()
    for number in range(MOST_KNOWN + 1):
        log.add(reference(f"pool-{number}"), UP, "a", 0.0)
        [write] = drain(log, 0.0)
        log.written(write, f"event-{number}")
    log.add(reference("pool-0"), UP, "a", 5.0)
    log.add(reference("pool-1"), UP, "a", 5.0)
    assert [write.name for write in drain(log, 5.0)] == [None, "event-1"]


def test_long_messages_are_cut() -> None:
    log = EventLog()
    log.add(reference(), UP, "x" * 5000, 0.0)
    assert len(drain(log, 0.0)[0].key[2]) == 1000
