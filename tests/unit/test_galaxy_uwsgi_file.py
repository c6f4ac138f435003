import os

import pytest

import galaxy_uwsgi_file
from galaxy_errors import ConfigError
from galaxy_uwsgi_file import UNKNOWN


def _yaml(text, section="uwsgi"):
    problems, doubts = [], []
    lines = list(galaxy_uwsgi_file.yaml_lines(text, section, "x.yml", problems, doubts))
    return lines, problems, doubts


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("a.ini", "uwsgi:\n", "ini"),
        ("a.yml", "[uwsgi]\n", "yaml"),
        ("a.yaml", "", "yaml"),
        ("a.conf", "# x\n  [uwsgi]\n", "ini"),
        ("a", "uwsgi:\n  socket: [a]\n", "yaml"),
        ("a", "", "yaml"),
    ],
)
def test_which_language_it_is(name, text, kind):
    assert galaxy_uwsgi_file.kind_of(name, text) == kind


def test_lines_of_an_ini():
    text = "a = 0\n[uwsgi]\n a = 1 ; x \n;c\n#d\nb\n=e\n[ uwsgi ]\nc = 1\n[uwsgi]\r\n\td =\t2=3\r\n[uwsgi\ne = 1"
    assert list(galaxy_uwsgi_file.ini_lines(text, "uwsgi")) == [
        (2, None, ""),
        (3, "a", "1 ; x"),
        (6, "b", ""),
        (7, "", "e"),
        (10, None, ""),
        (11, "d", "2=3"),
    ]
    assert list(galaxy_uwsgi_file.ini_lines("[x]\na = 1\n", "uwsgi")) == []


def test_lines_of_a_yaml():
    lines, problems, doubts = _yaml("x:\n  a: 0\nuwsgi:  # ours\n  a: 1 # x\n\n # c\n  b :\t2\n\tc: d: e\ny:\n  a: 3\n")
    assert lines == [(3, None, ""), (4, "a", "1"), (7, "b", "2"), (8, "c", "d: e")]
    assert problems == doubts == []
    assert _yaml("a:\n  b: c\n")[0] == []


@pytest.mark.parametrize(
    ("text", "values", "told"),
    [
        ("  a:\n    - 1\n    - 2\n  b: 3\n", ["1", "2", "3"], "list"),
        ("  a: [1, '2']\n  b: 3\n", ["1", "2", "3"], "list"),
        ("  a: '1'\n  b: 3\n", ["1", "3"], "quotes"),
        ('  a: "1"\n', ["1"], "quotes"),
        ("  a\n  b: 3\n", ["3"], "without option: value"),
        ("  [x]\n  b: 3\n", ["3"], "list"),
    ],
)
def test_where_uwsgis_two_readers_of_yaml_differ(text, values, told):
    """The functional tests compare with uWSGI's own reader, as far as that reads."""
    lines, problems, doubts = _yaml(f"x: y\nuwsgi:\n  first: 0\n{text}")
    assert [value for _, key, value in lines if key and key != "first"] == values
    assert problems == []
    ((_, source, sentence),) = doubts
    assert source in ("x.yml:4", "x.yml:5")
    assert told in sentence


@pytest.mark.parametrize(
    "line", [": x", ":", ": :", "a: \x0b", "a: \u2003", "-", "- ", "- :", "a: '", "a: []", "a: ''", "[", "\x0c"]
)
def test_lines_that_say_little(line):
    lines, _, _ = _yaml(f"uwsgi:\n  first: 0\n  {line}\n  last: 1\n")
    assert lines[:2] == [(1, None, ""), (2, "first", "0")]
    assert lines[-1] == (4, "last", "1")


def test_an_address_in_brackets_is_no_list():
    assert _yaml("uwsgi:\n  a: [::1]:80\n  b: [::1]\n")[0][1:] == [(2, "a", "[::1]:80"), (3, "b", "[::1]")]


def test_magic_variables(tmp_path):
    path = tmp_path / "conf" / "galaxy.web.ini"
    path.parent.mkdir()
    path.touch()

    def replaced(text, section="uwsgi", top=None, cwd=None):
        return galaxy_uwsgi_file.magic(text, str(path), section, "galaxy.web.ini", top, cwd)

    assert replaced("%o %p %s %c %n %e %x|") == f"galaxy.web.ini {path} galaxy.web.ini conf galaxy.web ini |"
    assert replaced("%d%%p %(p) 5%\nx%z%", cwd="/") == f"{tmp_path}/conf/%p %(p) 5x%"
    assert replaced("%x %v", "other", cwd="/srv") == "other /srv"
    assert replaced("%v%t") == f"{UNKNOWN}v{UNKNOWN}t"
    assert replaced("%k%0") == f"{os.cpu_count()}{str(tmp_path).split('/')[1]}"
    # capital letters stand for the first file
    assert replaced("%S%O|%X") == "|"
    assert replaced("%S %O %X|", top=("/a/b.ini", "c", "x/b.ini")) == "b.ini x/b.ini c|"


def test_a_link_is_named_by_itself_and_a_directory_by_its_own_name(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.ini").touch()
    (tmp_path / "linked").symlink_to("real")
    (tmp_path / "link.ini").symlink_to("real/a.ini")
    for path, full in ((tmp_path / "linked" / "a.ini", tmp_path / "real" / "a.ini"), (tmp_path / "link.ini",) * 2):
        assert galaxy_uwsgi_file.magic("%p", str(path), "uwsgi", "a.ini", None, None) == str(full)


def test_what_is_read(tmp_path):
    path = tmp_path / "a.ini"
    path.write_bytes(b"[uwsgi]\na = b\0c\n\0\nd = \xff\xc3\xa4\n")
    # a text in C ends at a NUL
    assert galaxy_uwsgi_file.read_text(str(path)) == "[uwsgi]\na = b\n\nd = \ufffd\u00e4\n"
    path.write_bytes(b"x" * (galaxy_uwsgi_file.MAX_FILE + 1))
    for wrong in (str(path), str(tmp_path), "/no/such", "/dev/null", "x\0y", "\udcff", "relative", "/" + "x" * 5000):
        with pytest.raises(ConfigError) as caught:
            galaxy_uwsgi_file.read_text(wrong)
        assert len(str(caught.value)) < 400
    path.write_bytes(b"x" * galaxy_uwsgi_file.MAX_FILE)
    assert len(galaxy_uwsgi_file.read_text(str(path))) == galaxy_uwsgi_file.MAX_FILE


@pytest.mark.parametrize(
    ("text", "kind", "told"),
    [
        ("a: b\n", "yaml", "no uwsgi: section"),
        ("[x]\n", "ini", "no [uwsgi] section"),
        ("gravity:\n  x: y\n", "yaml", "gunicorn"),
        ("\ufeff[uwsgi]\n", "ini", "byte order mark"),
    ],
)
def test_why_there_is_no_section(text, kind, told):
    assert told in galaxy_uwsgi_file.no_section("/x", text, kind, "uwsgi")
