"""Processor time of tests: what stays the same when something else is running on the machine."""

import os

import psutil
import pytest


def processor_seconds() -> float:
    """Return the seconds that this process and all that it has started have computed so far."""
    own = os.times()
    total = own.user + own.system + own.children_user + own.children_system
    for process in psutil.Process().children(recursive=True):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


class ProcessorTimes:
    """Plugin that lists the tests that compute longest, with the fixtures that each was the first to use.

    Args:
        count: number of tests to list.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        """Add the time since the item's last phase to the report."""
        report = yield
        now = processor_seconds()
        report.user_properties.append(("processor", max(0.0, now - item.processor_began)))
        item.processor_began = now
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item):
        """Start measuring."""
        item.processor_began = processor_seconds()

    def pytest_terminal_summary(self, terminalreporter):
        """List the slowest tests and the sum of all."""
        seconds = {}
        for reports in terminalreporter.stats.values():
            for report in reports:
                for name, value in getattr(report, "user_properties", ()):
                    if name == "processor":
                        phase = {"setup": 0, "call": 1, "teardown": 2}[report.when]
                        seconds.setdefault(report.nodeid, [0.0] * 3)[phase] = value
        ordered = sorted(seconds.items(), key=lambda item: -sum(item[1]))
        total = sum(map(sum, seconds.values()))
        terminalreporter.section(f"processor time: {total:.0f} s; set-up, call and tear-down of the slowest")
        for nodeid, phases in ordered[: self.count]:
            terminalreporter.write_line("".join(f"{value:8.2f}" for value in phases) + f"  {nodeid}")
