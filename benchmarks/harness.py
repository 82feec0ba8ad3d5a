"""Times our op and its peers in one process, in turns, and fails where our result is wrong.

A benchmark builds a `Case` and hands it to the `compare` fixture. Our callable is pytest-benchmark's target;
after each of its rounds every peer gets a round of its own, so that a busy moment of the machine hits all of
them alike. One call that is not timed precedes each round. Slow peers get fewer rounds, spread over the run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .limits import Limits, Work, synchronised
from .memory import peak_extra_bytes

FULL_ONLY = "not run in quick"


@dataclass(frozen=True)
class Peer:
    run: Callable[[], Any]
    about: str
    full_only: bool = False
    # How many items of the peer's result differ from ours; None where the results cannot be compared.
    differing: Callable[[Any], int] | None = None
    # So many calls do what one of ours does; one is timed, and counts as all of them.
    repeats: int = 1


@dataclass(frozen=True)
class Case:
    room: str
    op: str
    name: str
    shape: str
    dtype: str
    n: int
    ours: Callable[[], Any]
    check: Callable[[Any], None]
    checked_against: str
    peers: dict[str, Peer]
    work: Work | None = None
    series: str = ""  # cases of one series are points of one growth chart
    draw: Callable[[Any, Path], None] | None = None  # saves a picture of our result
    measures_memory: bool = False  # of one call of ours and of each peer


@dataclass(frozen=True)
class Effort:
    """How long the contestants of a case are timed."""

    seconds: float
    shortest_round: float
    min_rounds: int
    max_rounds: int


EFFORTS = {
    "quick": Effort(seconds=0.5, shortest_round=0.004, min_rounds=3, max_rounds=25),
    "full": Effort(seconds=2.5, shortest_round=0.010, min_rounds=3, max_rounds=60),
}


@dataclass
class Contestant:
    """One callable with the number of rounds and of calls per round that its speed allows."""

    run: Callable[[], Any]
    effort: Effort
    rounds: int = 0
    calls: int = 1
    warm: bool = True
    seconds: list[float] = field(default_factory=list)

    def calibrate(self) -> Any:
        """Calls it until its speed is known; returns the first result."""
        # The first call may compile, so it tells nothing about speed.
        result = self.run()
        self.calls, once = self._settle()
        # A slow call warms its own caches within its first moments.
        self.warm = once < self.effort.seconds / 10
        per_round = once * (self.calls + self.warm)
        wanted = int(self.effort.seconds / per_round)
        self.rounds = min(max(wanted, self.effort.min_rounds), self.effort.max_rounds)
        return result

    def _settle(self) -> tuple[int, float]:
        """Finds how many calls make a round long enough to time; returns that and the seconds per call."""
        calls = 1
        while True:
            seconds = self._time(calls)
            if seconds >= self.effort.shortest_round:
                return calls, seconds / calls
            calls = max(2 * calls, int(calls * self.effort.shortest_round / max(seconds, 1e-9) * 0.7))

    def _time(self, calls: int) -> float:
        run = self.run
        start = time.perf_counter()
        for _ in range(calls):
            run()
        return time.perf_counter() - start

    def warm_up(self) -> None:
        if self.warm:
            self.run()

    def play(self) -> None:
        self.warm_up()
        self.seconds.append(self._time(self.calls) / self.calls)


class Compare:
    """The `compare` fixture: checks and times a case and stores all with pytest-benchmark's result."""

    def __init__(self, benchmark: Any, suite: str, limits: Limits, device: str, pictures: Path | None) -> None:
        self.benchmark = benchmark
        self.suite = suite
        self.limits = limits
        self.device = device
        self.pictures = pictures

    def __call__(self, case: Case) -> None:
        effort = EFFORTS[self.suite]
        ours = Contestant(synchronised(case.ours, self.device), effort)
        case.check(ours.calibrate())
        playing, facts = self._enter_peers(case, effort)
        result = self._play(ours, list(playing.values()))
        case.check(result)
        for name, peer in playing.items():
            facts[name] |= _summary(peer, case.peers[name].repeats)
        if case.measures_memory:
            self.benchmark.extra_info["peak_extra_bytes"] = peak_extra_bytes(case.ours, self.device)
            for name, peer in playing.items():
                facts[name]["peak_extra_bytes"] = peak_extra_bytes(peer.run, self.device)
        self._store(case, result, facts)

    def _enter_peers(self, case: Case, effort: Effort) -> tuple[dict[str, Contestant], dict[str, dict[str, Any]]]:
        playing: dict[str, Contestant] = {}
        facts: dict[str, dict[str, Any]] = {}
        for name, peer in case.peers.items():
            facts[name] = {"about": peer.about}
            if peer.full_only and self.suite == "quick":
                facts[name]["skipped"] = FULL_ONLY
                continue
            contestant = playing[name] = Contestant(synchronised(peer.run, self.device), effort)
            result = contestant.calibrate()
            facts[name]["differing"] = peer.differing(result) if peer.differing else None
        return playing, facts

    def _play(self, ours: Contestant, peers: list[Contestant]) -> Any:
        rounds = max([ours.rounds, *(peer.rounds for peer in peers)])
        played = 0

        def peers_play() -> None:
            nonlocal played
            played += 1
            for peer in peers:
                if len(peer.seconds) < min(played, rounds) * peer.rounds // rounds:
                    peer.play()
            ours.warm_up()

        ours.warm_up()
        return self.benchmark.pedantic(ours.run, teardown=peers_play, rounds=rounds, iterations=ours.calls)

    def _store(self, case: Case, result: Any, peers: dict[str, dict[str, Any]]) -> None:
        ours = self.benchmark.stats.stats.median
        for fact in peers.values():
            if "median" in fact:
                fact["ratio"] = fact["median"] / ours
        described = ("room", "op", "name", "shape", "dtype", "n", "series", "checked_against")
        info = {key: getattr(case, key) for key in described} | {"device": self.device, "peers": peers}
        if case.work:
            ideal = self.limits.ideal_seconds(case.work)
            info["work"] = asdict(case.work) | {"ideal": ideal, "fraction": ideal / ours}
        if case.draw and self.pictures:
            picture = f"{case.op}_{case.name}.png".replace(" ", "_").replace(",", "")
            case.draw(result, self.pictures / picture)
            info["picture"] = picture
        self.benchmark.extra_info.update(info)


def _summary(peer: Contestant, repeats: int) -> dict[str, Any]:
    times = [seconds * repeats for seconds in peer.seconds]
    return {
        "median": statistics.median(times),
        "min": min(times),
        "max": max(times),
        "rounds": len(times),
        "calls": peer.calls,
    }
