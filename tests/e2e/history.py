# SPDX-License-Identifier: Apache-2.0
"""Is a history of operations on one register linearizable?

An operation began and ended at certain times and must seem to have happened at
one moment in between. One whose answer never came may have happened at any moment
after it began, or never.

    history = History()
    op = history.begin("a.zip")
    ... send it ...
    history.end(op, write("v1"))

What operations say of the register, whose value is None while there is no object:

    write(v)        now it holds v
    read(v)         it holds v
    create(v)       it held nothing, now it holds v
    present()       it holds something
    maybe(*values)  unknown outcome: it may become one of these, at any later time

check() follows every order that the times allow, per key, and keeps those states
in which nothing contradicts what was seen."""
import threading
import time

NEVER = float("inf")


def write(value):
    return ("write", value)


def read(value):
    return ("read", value)


def create(value):
    return ("create", value)


def present():
    return ("present", None)


def maybe(*values):
    return ("maybe", values)


class Operation:
    def __init__(self, key, began):
        self.key, self.began, self.ended, self.what, self.note = key, began, NEVER, None, ""

    def __repr__(self):
        return "%s [%.4f, %.4f] %s %s" % (self.key, self.began, self.ended,
                                          " ".join(map(str, self.what)), self.note)


class History:
    """Thread-safe. Operations that are never ended count for nothing."""

    def __init__(self):
        self.operations = []
        self.lock = threading.Lock()
        self.start = time.monotonic()

    def now(self):
        return time.monotonic() - self.start

    def begin(self, key):
        return Operation(key, self.now())

    def end(self, operation, what, note=""):
        ended = self.now()
        operation.what, operation.note = what, note
        operation.ended = NEVER if what[0] == "maybe" else ended
        with self.lock:
            self.operations.append(operation)

    def add(self, key, began, ended, what):
        """For tests of the checker."""
        operation = Operation(key, began)
        operation.ended, operation.what = (NEVER if what[0] == "maybe" else ended), what
        self.operations.append(operation)

    def check(self):
        """None, or what is wrong, for people."""
        keys = sorted({operation.key for operation in self.operations})
        for key in keys:
            problem = check_key([one for one in self.operations if one.key == key])
            if problem:
                return problem
        return None


def step(value, what):
    """The values a register may hold after `what` happened to it; none: it cannot."""
    kind, argument = what
    if kind == "write":
        return (argument,)
    if kind == "read":
        return (value,) if value == argument else ()
    if kind == "create":
        return (argument,) if value is None else ()
    if kind == "present":
        return (value,) if value is not None else ()
    return argument


def observes(what):
    return what[0] != "write"


def settle(configurations, pending, doubtful, target):
    """The configurations in which `target` has happened. A configuration is the
    value and the numbers of those that have happened already: of the pending ones,
    which end later, and of the doubtful ones, which never do.

    A doubtful one that nobody looks at before the next write might as well not
    have happened: it is only tried just before something that observes."""
    found, seen, todo = set(), set(), list(configurations)
    while todo:
        configuration = todo.pop()
        if configuration in seen:
            continue
        seen.add(configuration)
        value, done = configuration
        if target in done:
            found.add(configuration)
            continue
        for number, operation in pending.items():
            if number in done:
                continue
            starts = [(value, done)]
            if observes(operation.what):
                starts += [(after, done | {other}) for other, one in doubtful.items()
                           if other not in done for after in step(value, one.what)]
            for start, happened in starts:
                for after in step(start, operation.what):
                    todo.append((after, happened | {number}))
    return found


def check_key(operations):
    events = []
    for number, operation in enumerate(operations):
        # What ends as another begins overlaps it: beginnings first.
        events.append((operation.began, 0, number))
        if operation.ended != NEVER:
            events.append((operation.ended, 1, number))
    events.sort()
    configurations, pending, doubtful, passed = {(None, frozenset())}, {}, {}, []
    for _, is_end, number in events:
        operation = operations[number]
        if not is_end:
            (doubtful if operation.ended == NEVER else pending)[number] = operation
            continue
        after = settle(configurations, pending, doubtful, number)
        if not after:
            others = [one for one in pending.values() if one is not operation]
            return "no order of these operations explains the last one:\n  %s\n  values before: %s" % (
                "\n  ".join(map(repr, passed[-12:] + others + [operation])),
                sorted({str(value) for value, _ in configurations}))
        configurations = {(value, done - {number}) for value, done in after}
        del pending[number]
        passed.append(operation)
    return None
