"""All machines come at once: none is lost, and none boots twice at a time. The long form: ``tests/bench/scale.py``."""

import pytest
from support.swarm import Swarm

from galaxy_host_wait import Deadline, wait_until


@pytest.fixture(params=[40, pytest.param(300, marks=pytest.mark.slow)])
def swarm(request, tmp_path):
    found = Swarm(tmp_path, request.param, threads=request.param // 10, boot=1.0)
    with found.running():
        yield found


def test_none_is_lost_and_none_boots_twice_at_a_time(swarm):
    starts = [(f"salt/minion/{name}/start", name) for name in swarm.names]
    # every second machine sends its start twice
    swarm.fire(*starts, *starts[::2])
    assert wait_until(lambda: len(set(swarm.told["ready"])) == len(swarm.names), Deadline(1800), 0.5)
    assert swarm.told["failed"] == []
    # every tenth machine starts again, during its boot or after it
    swarm.fire(*starts[::10])
    begun = swarm.runs_begun
    assert wait_until(lambda: swarm.runs_begun - begun >= len(starts[::10]), Deadline(600), 0.5)
    assert wait_until(lambda: swarm.runs_ended == swarm.runs_begun, Deadline(600), 0.5)
    assert swarm.most_of_one == 1
    # for each start, there is a boot that began after it
    assert min(swarm.jobs.count(name) for name in swarm.names[::10]) >= 2
    assert max(swarm.jobs.count(name) for name in swarm.names) <= 3
