"""What is left to do on each replica, over all gateway workers: the less, the better to drain. Pure."""

from backlog.records import PoolView


def work_left(view: PoolView) -> dict[str, tuple[float, int]]:
    """GPU-seconds and requests in flight by replica; one that is not in it has none."""
    left: dict[str, tuple[float, int]] = {}
    for seen in view.reports:
        for name, share in seen.report.running.items():
            gpu_s, in_flight = left.get(name, (0.0, 0))
            left[name] = (gpu_s + share.remaining_gpu_s, in_flight + share.in_flight)
    return left
