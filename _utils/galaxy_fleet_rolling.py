"""
Restart the Galaxies of many machines one after the other, so that the others serve meanwhile.
"""

import concurrent.futures
import dataclasses
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from salt.exceptions import CommandExecutionError, SaltClientError, SaltInvocationError

import galaxy_fleet
import galaxy_remote
from galaxy_fleet import State
from galaxy_host_count import counted, part
from galaxy_host_record import record
from galaxy_host_wait import Deadline, wait_until

# seconds: for a look; until a proxy tries a failed machine again; between two looks
LOOK, SETTLE, PAUSE = 15, 11, 1.0
_SERVING = (State.READY.value, State.DEGRADED.value)
# no job is older, so a smaller number is not a job's
_FIRST_JOB = 10**9
# stands for the minion's ID in the texts of a hook
_MINION = "{minion}"


@record(frozen=True)
class Hook:
    """
    A function of the administrator's, called before or after the restart of a machine.

    function, arguments, keywords
        as Salt takes them. In a text, ``{minion}`` becomes the ID of the machine that is restarted
    target, target_type
        the minions on which it runs; ``{minion}`` means the machine itself
    """

    function: str
    arguments: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    target: str = _MINION
    target_type: str = "glob"

    def call(self, client: Any, minion: str) -> str:
        """Call the hook. Returns why it failed; empty if it went well on each of its minions."""
        answers = client.cmd(
            _filled(self.target, minion),
            self.function,
            _filled(list(self.arguments), minion),
            tgt_type="list" if self.target == _MINION else self.target_type,
            kwarg=_filled(dict(self.keywords), minion),
            full_return=True,
        )
        if not isinstance(answers, Mapping) or not answers:
            return f"{self.function}: no minion matches {self.target!r}"
        for name in answers:
            answer = galaxy_remote.answer_of(answers, name)
            if answer is None:
                return f"{self.function}: {galaxy_remote.text(name)} does not answer"
            if answer.get("retcode") != 0 or answer.get("ret") is False:
                return f"{self.function} on {galaxy_remote.text(name)}: {galaxy_remote.text(answer.get('ret'))[:500]}"
        return ""


def hook(name: str, given: Any) -> Hook | None:
    """
    Make a hook from the runner's argument: ``{"function": …, "arg": […], "kwarg": {…}, "tgt": …, "tgt_type": …}``. Only
    ``function`` is required.

    Raises ``SaltInvocationError``, which names the key.
    """
    if given is None:
        return None
    shapes = {"function": str, "arg": list, "kwarg": Mapping, "tgt": str, "tgt_type": str}
    if not isinstance(given, Mapping) or not isinstance(given.get("function"), str) or "." not in given["function"]:
        raise SaltInvocationError(f"{name} is {given!r}; give a mapping with the key function, such as module.function")
    for key, value in given.items():
        if key not in shapes:
            raise SaltInvocationError(f"{name} has no key {key!r}; known: {', '.join(shapes)}")
        if not isinstance(value, shapes[key]):
            raise SaltInvocationError(f"{name}:{key} is {value!r}; it is of the wrong type")
    return Hook(
        given["function"],
        tuple(given.get("arg", ())),
        given.get("kwarg", {}),
        given.get("tgt", _MINION),
        given.get("tgt_type", "glob"),
    )


def job(name: str, given: Any) -> int:
    """
    The number of a job, which is the time of its beginning in epoch seconds: that of an earlier one, or of a new one if
    ``given`` is ``None``.

    Raises ``SaltInvocationError`` if no job can have had the number.
    """
    now = int(time.time())
    number = int(given) if isinstance(given, str) and re.fullmatch(r"[0-9]{10}", given) else given
    if number is None:
        return now
    if type(number) is not int or not _FIRST_JOB <= number <= now:
        raise SaltInvocationError(f"{name} is {given!r}; give the number that an earlier call returned as job")
    return number


@record(frozen=True)
class Plan:
    """
    What a rolling restart shall do.

    job
        epoch seconds of its beginning. A server that was started later is done already
    batch
        how many machines to restart at a time
    max_failures
        how many machines may fail before the restart stops
    drain, undrain
        hooks
    drain_timeout
        seconds that requests under way have to end after ``drain``
    settle
        seconds that restarted machines must go on serving before the next ones are restarted. A proxy sends nothing for
        some time to a machine that did not answer
    """

    job: int
    batch: int = 1
    max_failures: int = 0
    drain: Hook | None = None
    undrain: Hook | None = None
    drain_timeout: float = 60
    settle: float = SETTLE


def look(found: Mapping[str, Any], plan: Plan, asked: float) -> tuple[dict[str, list[str | None]], list[str]]:
    """
    Decide what to do, after all machines have been asked.

    found
        what ``galaxy_fleet.fleet`` returned
    asked
        epoch seconds of the question, by the same clock as ``plan.job``

    Returns the servers to restart, by machine (machines that do not serve come first), and a list of the machines whose
    servers were all started since the job began. Raises ``CommandExecutionError`` if more than ``max_failures``
    machines do not serve, or if one batch would leave no machine that serves.
    """
    machines: dict[str, list[Mapping[str, Any]]] = {}
    for row in found["rows"]:
        machines.setdefault(row["minion"], []).append(row)
    lame = {minion: rows for minion, rows in machines.items() if not _serves(rows)}
    if len(lame) > plan.max_failures:
        reasons = "; ".join(_reason(minion, rows) for minion, rows in list(lame.items())[:10])
        raise CommandExecutionError(
            f"Nothing is restarted: {part(len(lame), len(machines), 'machine', 'does', 'do')} not serve, and "
            f"max_failures is {plan.max_failures}: {reasons}"
        )
    done, work = [], {}
    for minion in sorted(machines, key=lambda one: (one not in lame, one)):
        old = [row for row in machines[minion] if not _is_new(row, plan.job, asked)]
        if old:
            work[minion] = [row["server"] for row in old]
        else:
            done.append(minion)
    # one machine alone may be restarted; of several, some must go on serving
    if len(machines) > 1 and plan.batch >= len(machines) - len(lame):
        serving = len(machines) - len(lame)
        raise CommandExecutionError(
            f"Nothing is restarted: {part(serving, len(machines), 'machine', 'serves', 'serve')}, and a batch of "
            f"{plan.batch} would leave none; give a smaller batch"
        )
    return work, done


def roll(
    work: Mapping[str, list[Any]],
    plan: Plan,
    clients: Callable[[], Any],
    tell: Callable[[str, str, dict[str, Any]], object],
) -> dict[str, Any]:
    """
    Restart the machines, one batch after the other. The next batch begins after the one before has served for
    ``settle`` seconds. If more than ``max_failures`` machines have failed, the restart stops.

    work
        servers by machine, as :py:func:`look` returns them
    clients
        makes a ``LocalClient``, as a context manager. Each machine has its own, because the machines of a batch are
        restarted at the same time
    tell
        called with each step: the minion, ``restarting``, ``restarted`` or ``failed``, and data

    Returns ``restarted`` (minions), ``failed`` (reasons by minion) and ``untouched`` (minions).
    """
    minions = list(work)
    restarted: list[str] = []
    failed: dict[str, str] = {}
    while minions and len(failed) <= plan.max_failures:
        batch, minions = minions[: plan.batch], minions[plan.batch :]
        with concurrent.futures.ThreadPoolExecutor(len(batch)) as pool:
            reasons = list(pool.map(lambda minion: _machine(minion, work[minion], plan, clients, tell), batch))
        failed.update({minion: reason for minion, reason in zip(batch, reasons, strict=True) if reason})
        done = {minion: work[minion] for minion in batch if minion not in failed}
        if done and minions and len(failed) <= plan.max_failures:
            failed.update(_settle(done, plan.settle, clients, tell))
        restarted += [minion for minion in done if minion not in failed]
    return {"restarted": restarted, "failed": failed, "untouched": minions}


def _settle(
    work: Mapping[str, list[Any]], seconds: float, clients: Callable[..., Any], tell: Callable[..., Any]
) -> dict[str, str]:
    """Wait, so that a proxy tries these machines again. Returns why some did not go on serving, by machine."""
    wait_until(lambda: False, Deadline(seconds), interval=seconds)
    failed = {}
    for minion, servers in work.items():
        try:
            with clients() as client:
                reason = _lameness(client, minion, servers)
        except (SaltClientError, SaltInvocationError) as exc:
            reason = galaxy_remote.text(str(exc))
        if reason:
            failed[minion] = f"It was restarted, and did not go on serving: {reason}"
            tell(minion, "failed", {"reason": failed[minion]})
    return failed


def _machine(minion: str, servers: list[Any], plan: Plan, clients: Callable[..., Any], tell: Callable[..., Any]) -> str:
    """Restart one machine. Returns why it failed; empty if all its servers are ready."""
    tell(minion, "restarting", {"servers": servers})
    began = time.monotonic()
    try:
        with clients() as client:
            reason = _restart(client, minion, servers, plan)
    except (SaltClientError, SaltInvocationError) as exc:
        reason = galaxy_remote.text(str(exc))
    took = {"seconds": round(time.monotonic() - began, 1)}
    tell(minion, "failed" if reason else "restarted", {**took, "reason": reason} if reason else took)
    return reason


def _restart(client: Any, minion: str, servers: list[Any], plan: Plan) -> str:
    if plan.drain:
        reason = plan.drain.call(client, minion) or _drained(client, minion, servers, plan.drain_timeout)
        if reason:
            # the machine still serves, so it must get requests again
            return _joined(reason, plan.undrain.call(client, minion) if plan.undrain else "")
    for server in servers:
        answer = _call(client, minion, "galaxy.restart", server)
        if not answer["success"]:
            # the machine stays drained: nobody knows whether it serves
            return galaxy_remote.text(answer["return"])
    reason = _lameness(client, minion, servers)
    return reason or (plan.undrain.call(client, minion) if plan.undrain else "")


def _lameness(client: Any, minion: str, servers: list[Any]) -> str:
    """Why not all of these servers serve; empty if all do."""
    lame = [row for row in _rows(client, minion, servers) if row["state"] not in _SERVING]
    return _reason(minion, lame) if lame else ""


def _drained(client: Any, minion: str, servers: list[Any], seconds: float) -> str:
    """Wait until no worker has a request. Returns why this was not so in time."""
    rows: list[dict[str, Any]] = []

    def is_quiet() -> bool:
        rows[:] = _rows(client, minion, servers)
        return all(row["busy"] == 0 and not row["queue"] for row in rows)

    if wait_until(is_quiet, Deadline(seconds), interval=PAUSE):
        return ""
    workers = counted(rows[0]["busy"], "worker is", "workers are")
    return f"{minion} is drained, but has requests after {seconds:g} s: {workers} busy"


def _rows(client: Any, minion: str, servers: list[Any]) -> list[dict[str, Any]]:
    """The rows of these servers, asked one after the other."""
    found = []
    for server in servers:
        answer = _call(client, minion, "galaxy.status", server)
        found += galaxy_fleet.rows(minion, answer["return"])
    return found


def _call(client: Any, minion: str, function: str, server: str | None) -> dict[str, Any]:
    keywords = {"server": server} if server else {}
    return galaxy_remote.call(client, minion, function, **keywords)


def _serves(rows: list[Mapping[str, Any]]) -> bool:
    return all(row["state"] in _SERVING for row in rows)


def _is_new(row: Mapping[str, Any], job: int, asked: float) -> bool:
    """Whether the server was started after the job began. The minion's clock does not matter for this."""
    # the uptime is rounded
    return row["state"] in _SERVING and row["uptime"] is not None and asked - row["uptime"] - 1 > job


def _reason(minion: str, rows: Sequence[Mapping[str, Any]]) -> str:
    row = next((one for one in rows if one["state"] not in _SERVING), rows[0])
    name = f"{minion} {row['server']}" if len(rows) > 1 else minion
    return f"{name} is {row['state']}" + (f" ({row['problems'][0]})" if row["problems"] else "")


def _joined(*reasons: str) -> str:
    return "; ".join(reason for reason in reasons if reason)


def _filled(value: Any, minion: str) -> Any:
    if isinstance(value, str):
        return value.replace(_MINION, minion)
    if isinstance(value, Mapping):
        return {key: _filled(inner, minion) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, minion) for inner in value]
    return value
