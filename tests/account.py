#!/usr/bin/env python3
"""Recomputes from a job's journals where the time of its nodes went: an account that shares no code with `piton report`.

    account.py STORE JOB

Prints one JSON object: the node seconds of each part, and the failures that supervisors journalled. What each part is stands in docs/report.md; of the
journals, those of each attempt's first rank and of its supervisor are read. Needs nothing but Python.
"""
import json
import pathlib
import sys
from datetime import datetime


def seconds(moment):
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()


def lines(path):
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return
    for line in text.split("\n"):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and record.get("v") == 1:
            yield record


class Attempt:
    """What the journals in one folder say."""

    def __init__(self, folder):
        self.events = list(lines(folder / "journal.rank-00000.jsonl"))
        self.supervisor = list(lines(folder / "journal.supervisor.jsonl"))
        self.began = next((e for e in self.events if e["event"]["kind"] == "attempt_started"), None)
        if self.began is None:
            return
        self.epoch = self.began["epoch"]
        self.nodes = max(self.began["event"].get("nodes") or 1, 1)
        self.start = seconds(self.began["at"])
        self.events = self.events[self.events.index(self.began):]
        self.times = [self.when(e) for e in self.events]
        self.last = max(self.times)

    def when(self, record):
        """By the wall clock at the start and the monotonic one since."""
        first, now = self.began["mono_ns"], record["mono_ns"]
        if first == 0 or now < first:
            return seconds(record["at"])
        return self.start + (now - first) // 1_000_000 / 1e3

    def of(self, *kinds):
        return [(t, e["event"]) for t, e in zip(self.times, self.events) if e["event"]["kind"] in kinds]

    def computing(self):
        plans = self.of("plan")
        return plans[0][0] if plans else self.last

    def computed_until(self):
        """When a step was reached that was not known before."""
        known, reached, latest = 0, self.start, self.start
        for time, event in zip(self.times, self.events):
            latest, event = max(latest, time), event["event"]
            if event["kind"] == "resumed":
                known = event["step"]
            elif event["kind"] in ("beat", "checkpoint_started", "attempt_ended"):
                reached = latest if event["step"] > known else reached
                known = event["step"]
        return reached

    def checkpoints(self):
        """By number: when it was taken, how long it blocked, and what steps lost to it."""
        slowed = {e["id"]: e["lost_seconds"] for _, e in self.of("slowed")}
        return {e["id"]: (t, e["blocked_ns"] / 1e9, slowed.get(e["id"], 0.0)) for t, e in self.of("frozen")}

    def origin(self):
        """`None`: it never said; otherwise the checkpoint that it went on from, (0, 0) for the beginning."""
        for _, event in self.of("resumed"):
            return (event["epoch"], event["id"])
        return (0, 0) if self.of("fresh_start") else None


def ending(attempts, place):
    attempt = attempts[place]
    explained = [r["event"] for a in attempts[place:] for r in a.events + a.supervisor
                 if r["event"]["kind"] == "end_explained" and r["event"]["epoch"] == attempt.epoch]
    if explained and explained[-1]["failure"]:
        return "failed"
    own = ending_by_itself(attempts, place)
    return "no failure" if explained and own in ("failed", "open") else own


def ending_by_itself(attempts, place):
    attempt = attempts[place]
    ends = attempt.of("attempt_ended")
    if ends:
        return {"finished": "finished", "halted": "halted"}.get(ends[-1][1]["how"], "failed")
    if place + 1 == len(attempts):
        return "open"
    limit = attempt.began["event"].get("allocation_end")
    if limit and seconds(attempt.events[-1]["at"]) >= seconds(limit) - 60:
        return "allocation ended"
    mine, other = attempt.began["event"], attempts[place + 1].began["event"]
    if mine.get("batch_job") and mine["batch_job"] == other.get("batch_job") \
            and (other.get("batch_restarts") or 0) > (mine.get("batch_restarts") or 0):
        return "requeued"
    return "failed"


def account(attempts):
    parts = dict.fromkeys(("all", "useful", "blocked", "slowed", "lost", "detecting", "restarting", "waiting"), 0.0)
    for place, attempt in enumerate(attempts):
        computing, taken, end = attempt.computing(), attempt.checkpoints(), ending(attempts, place)
        detecting = down = waiting = 0.0
        known = computed = kept = attempt.last
        if place + 1 < len(attempts):
            following = attempts[place + 1].start
            computed = max(attempt.computed_until(), computing)
            origins = [o for o in (later.origin() for later in attempts[place + 1:]) if o is not None]
            if any(epoch < attempt.epoch for epoch, _ in origins):
                kept = computing
            else:
                own = [number for epoch, number in origins if epoch == attempt.epoch]
                kept = taken[min(own)][0] if own and min(own) in taken else computing if own else computed
            kept = max(kept, computing)
            computed = max(computed, kept)
            seen = [seconds(r["at"]) for r in attempt.supervisor
                    if r["event"]["kind"] == "failure_detected" and seconds(r["at"]) >= attempt.start]
            known = min(max(seen[-1] if seen else attempt.last, computed), max(following, computed))
            gap = max(following - known, 0.0)
            rests = [r["event"].get("wait_seconds") or 0.0 for r in attempt.supervisor
                     if r["event"]["kind"] == "failure_handled"] if seen else []
            waiting = min(rests[-1] if rests else 0.0, gap) if end == "failed" else gap
            down = gap - waiting
            detecting = known - computed
            whole = max(following, known) - attempt.start
        else:
            whole = known - attempt.start
        over = place + 1 < len(attempts)
        sums = {"all": whole, "blocked": 0.0, "slowed": 0.0, "detecting": detecting,
                "restarting": computing - attempt.start + down, "waiting": waiting}
        # What was kept, and what was lost: less what checkpoints took of either, which is no more than there was.
        for part, span, late in (("useful", kept - computing, False), ("lost", computed - kept, True)):
            blocked = min(sum(b for t, b, _ in taken.values() if (t > kept) == late), span)
            slowed = min(sum(s for t, _, s in taken.values() if (over and t >= kept) == late), span - blocked)
            sums[part] = span - blocked - slowed
            sums["blocked"] += blocked
            sums["slowed"] += slowed
        if end == "halted":
            sums["blocked"], sums["detecting"] = sums["blocked"] + detecting, 0.0
        for part, value in sums.items():
            parts[part] += attempt.nodes * value
    # Steps that were faster beside a checkpoint are no cost.
    parts["useful"], parts["slowed"] = parts["useful"] + min(parts["slowed"], 0.0), max(parts["slowed"], 0.0)
    return parts


def main():
    store, job = sys.argv[1:]
    folders = sorted((p for p in (pathlib.Path(store) / job).iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
    attempts = [a for a in map(Attempt, folders) if a.began is not None]
    faults = [{"epoch": a.epoch, "class": e["class"], "at": r["at"]}
              for a in attempts for r in a.supervisor for e in [r["event"]] if e["kind"] == "failure_detected"]
    print(json.dumps({"parts": account(attempts), "faults": faults}))


main()
