"""The execution module, loaded by Salt: which keys it takes, and how it refuses."""

import inspect

import pytest
import salt.client
import salt.loader
from salt.exceptions import SaltInvocationError

import galaxy_pillar
from galaxy_errors import ConfigError, DeviceError, KeySourceError, MapperError


@pytest.fixture
def load(opts, tmp_path):
    """``__salt__`` of a minion with these options. Pillar has two passphrases."""

    def load(**changed):
        pillar = {"a": {"word": "from pillar", "number": 1234, "masked": "**********"}}
        return salt.loader.minion_mods({**opts, "pillar": pillar, **changed}, context={})

    return load


@pytest.fixture
def resize(load):
    """``luks.resize`` reads the key, and then fails because no volume is open."""
    return load()["luks.resize"]


def test_every_public_function_has_a_cli_example_and_documents_its_parameters(modules):
    functions = {name: modules[name] for name in modules if name.startswith("luks.")}
    assert {"luks.open", "luks.format", "luks.encrypt", "luks.status"} <= set(functions)
    for name, function in functions.items():
        text = inspect.cleandoc(function.__doc__)
        assert f"CLI Example:\n\n.. code-block:: bash\n\n    salt '*' {name}" in text, name
        code = getattr(function, "__wrapped__", function).__code__
        for parameter in code.co_varnames[: code.co_argcount]:
            assert parameter in function.__doc__, f"{name}: {parameter}"


@pytest.mark.parametrize("arguments", [{"key": "pillar://a:word"}, {"passphrase": "words"}])
def test_a_key_that_is_there_is_taken(resize, arguments):
    with pytest.raises(MapperError, match="not open"):
        resize("none", **arguments)


@pytest.mark.parametrize(
    ("key", "match"),
    [
        ("pillar://a:none", "holds nothing, not a passphrase"),
        ("pillar://a:number", "quote it in YAML"),
        ("pillar://a", "a .*ict"),
        ("pillar://a:masked", "asterisks"),
        ("sdb://none/key", "holds nothing, not a passphrase"),
        ("/nonexistent", "cannot be read"),
        ("words", "names no place of a key"),
        ("vault://key", "names no place of a key"),
    ],
)
def test_a_place_without_a_key_is_named(resize, key, match):
    with pytest.raises(KeySourceError, match=match) as caught:
        resize("none", key=key)
    assert "1234" not in str(caught.value)


def test_a_key_comes_from_one_place(resize):
    with pytest.raises(SaltInvocationError, match="give either `key`"):
        resize("none", key="pillar://a:word", passphrase="words")


@pytest.mark.parametrize("changed", [{"file_client": "remote"}, {"__cli": "salt-minion"}])
def test_a_passphrase_from_a_master_is_refused(load, changed):
    with pytest.raises(SaltInvocationError, match="job cache") as caught:
        load(**changed)["luks.resize"]("none", passphrase="words of mine")
    assert "words of mine" not in str(caught.value)


@pytest.mark.parametrize(
    ("function", "arguments", "match"),
    [
        ("luks.status", [5], "device"),
        ("luks.close", ["a/b"], "mapper"),
        ("luks.encrypt", ["/dev/vdb", "galaxy", "export"], "mount_point"),
        ("luks.generate_key", ["key"], "name"),
    ],
)
def test_bad_arguments_are_named(modules, function, arguments, match):
    with pytest.raises(SaltInvocationError, match=f"{match} is .*; give"):
        modules[function](*arguments)


def test_options_of_the_volume_are_checked_before_anything_else(modules):
    for name, value in {"version": 3, "chipher": "aes", "key_size": "512"}.items():
        with pytest.raises(SaltInvocationError, match=name):
            modules["luks.format"]("/nonexistent", key="prompt", **{name: value})
    with pytest.raises(SaltInvocationError, match="signature"):
        modules["luks.format"]("/nonexistent", key="prompt", signature="ext4")


def test_what_is_not_there(modules, tmp_path):
    with pytest.raises(DeviceError):
        modules["luks.status"]("/nonexistent")
    with pytest.raises(ConfigError):
        modules["luks.from_cryptdev_ini"](str(tmp_path / "none"))
    assert modules["luks.close"]("none") is False
    assert modules["luks.open_volumes"]() == {}


def test_generate_key(modules, tmp_path):
    path = str(tmp_path / "key")
    assert modules["luks.generate_key"](path) == path
    with pytest.raises(KeySourceError, match="already"):
        modules["luks.generate_key"](path)


def test_each_setting_of_a_volume_reaches_its_state(opts):
    """Each setting of a volume in pillar is a parameter of luks.mounted, or of another state of galaxy.storage."""
    modules = salt.loader.minion_mods({**opts, "pillar": {"galaxy": {"storage": {"device": "/dev/vdb"}}}}, context={})
    shown = modules["state.show_sls"]("galaxy.storage")
    assert isinstance(shown, dict), shown
    given = {key for one in shown["galaxy-storage-volume-mounted"]["luks"] if isinstance(one, dict) for key in one}
    elsewhere = {"cryptdev_ini", "mount_point", "passphrase", "generate_key", "luks", "user", "group", "mode"}
    elsewhere |= {"directories", "packages"}
    assert given - {"name", "require", "order"} == {key.name for key in galaxy_pillar.STORAGE} - elsewhere


def test_what_requires_the_volume_does_not_run_without_it(opts, tree, tmp_path):
    (tmp_path / "needs_data.sls").write_text(
        "include: [galaxy.storage]\n"
        "volume: {test.nop: [{require: [{luks: galaxy-storage-volume-mounted}]}]}\n"
        "all: {test.nop: [{require: [{sls: galaxy.storage}]}]}\n"
    )
    roots = {"base": [str(tree), str(tree / "formulas"), str(tmp_path)]}
    storage = {"device": "/nonexistent", "device_timeout": 0, "packages": [], "user": "root", "group": "root"}
    caller = salt.client.Caller(mopts={**opts, "file_roots": roots})
    done = caller.cmd("state.apply", "needs_data", pillar={"galaxy": {"storage": storage}})
    results = {state["__id__"]: state for state in done.values()}
    assert "/nonexistent: no such device" in results["galaxy-storage-volume-mounted"]["comment"]
    for name in ("volume", "all"):
        assert results[name]["result"] is False
        assert "requisite failed" in results[name]["comment"]


def test_the_formula_renders_from_pillar_and_from_the_old_ini(load, tmp_path):
    """It uses every key of the defaults, and stops Galaxy before it closes the volume."""
    ini = tmp_path / "luks-cryptdev.ini"
    ini.write_text("[luks]\nuuid = 0ad6c58f-3798-440f-818c-5a5bea96859f\ncryptdev = crypt\nmountpoint = /data\n")
    for storage, name, device, mapper in (
        ({"device": "/dev/vdb", "luks": {"version": 1}}, "/export", "/dev/vdb", "galaxy"),
        ({"cryptdev_ini": str(ini)}, "/data", "UUID=0ad6c58f-3798-440f-818c-5a5bea96859f", "crypt"),
    ):
        functions = load(pillar={"galaxy": {"storage": {"directories": ["database"], **storage}}})
        low = {state["__id__"]: state for state in functions["state.show_low_sls"]("galaxy.storage")}
        mounted = low["galaxy-storage-volume-mounted"]
        assert (mounted["name"], mounted["device"], mounted["mapper"]) == (name, device, mapper)
        assert mounted["encrypt"] is False
        assert (mounted["device_timeout"], mounted["nonempty"], mounted["keep"]) == (120, "refuse", None)
        assert low["galaxy-storage-directory-database"]["name"] == f"{name}/database"
        assert low["galaxy-storage-directory-root"]["user"] == "galaxy"
        low = {state["__id__"]: state for state in functions["state.show_low_sls"]("galaxy.storage.closed")}
        assert low["galaxy-storage-closed"]["name"] == mapper
        assert low["galaxy-storage-closed"]["require"] == [{"galaxy": "galaxy-settings"}, {"galaxy": "galaxy-stopped"}]
        assert low["galaxy-stopped"]["fun"] == "dead"
