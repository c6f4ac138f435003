"""Galaxy's own Python loads the application once, as Galaxy's user."""

import pytest

import galaxy_gravity_config
from galaxy_errors import ProcessError
from galaxy_gravity_command import Commands
from galaxy_gravity_trial import require_loadable


def load(bed, timeout=60):
    require_loadable(Commands(galaxy_gravity_config.read(str(bed.config))), timeout)


def factory(bed):
    return bed.root / "lib" / "galaxy" / "webapps" / "galaxy" / "fast_factory.py"


def test_what_loads_and_what_does_not(make_bed):
    bed = make_bed()
    load(bed)
    code = factory(bed)
    works = code.read_text()
    bed.open("broken")
    with pytest.raises(ProcessError, match=rf"does not load: RuntimeError: no database \({code}:\d+\)"):
        load(bed)
    bed.close("broken")
    code.write_text(f"{works}\ndef x(:\n")
    with pytest.raises(ProcessError, match=rf"does not load: SyntaxError: invalid syntax \({code}:\d+\)"):
        load(bed)
    code.write_text("raise RuntimeError('postgresql://galaxy:TOPSECRET@db/galaxy')\n")
    with pytest.raises(ProcessError) as raised:
        load(bed)
    assert "postgresql" in str(raised.value)
    assert "TOPSECRET" not in str(raised.value)
    # it must look like gunicorn's master with preload, where Galaxy starts no threads of workers
    code.write_text(
        "import os, sys\n"
        "def factory():\n"
        "    assert '--preload' in sys.argv and 'gunicorn' in os.environ['SERVER_SOFTWARE']\n"
        "    print('noise')\n"
    )
    load(bed)


def test_one_that_does_not_end_or_says_nothing(make_bed):
    bed = make_bed()
    bed.open("load-is-slow")
    with pytest.raises(ProcessError, match="did not end within 1 s"):
        load(bed, 1)
    factory(bed).write_text("import os\nos._exit(0)\n")
    with pytest.raises(ProcessError, match="without an answer"):
        load(bed)
