import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

import galaxy_host_address
from galaxy_errors import AddressError
from galaxy_host_address import Address


@pytest.mark.parametrize(
    ("text", "address", "peer"),
    [
        ("127.0.0.1:4001", Address("127.0.0.1", 4001), ("127.0.0.1", 4001)),
        (":4001", Address("", 4001), ("127.0.0.1", 4001)),
        ("*:4001", Address("", 4001), ("127.0.0.1", 4001)),
        ("0.0.0.0:80", Address("0.0.0.0", 80), ("127.0.0.1", 80)),
        ("[::1]:4001", Address("::1", 4001), ("::1", 4001)),
        ("[::]:4001", Address("::", 4001), ("::1", 4001)),
        ("[2001:DB8::0:1]:1", Address("2001:db8::1", 1), ("2001:db8::1", 1)),
        ("localhost:4001", Address("localhost", 4001), ("localhost", 4001)),
        ("galaxy-1.example.org:9191", Address("galaxy-1.example.org", 9191), ("galaxy-1.example.org", 9191)),
        ("/run/galaxy.sock", Address(path="/run/galaxy.sock"), "/run/galaxy.sock"),
        ("unix:/run/galaxy.sock", Address(path="/run/galaxy.sock"), "/run/galaxy.sock"),
        ("@galaxy", Address(path="@galaxy"), "\0galaxy\0"),
        ("\\0galaxy", Address(path="@galaxy"), "\0galaxy\0"),
        ("http://127.0.0.1:9191", Address("127.0.0.1", 9191, http=True), ("127.0.0.1", 9191)),
        ("http://127.0.0.1:9191/", Address("127.0.0.1", 9191, http=True), ("127.0.0.1", 9191)),
        ("http://unix:/run/s", Address(path="/run/s", http=True), "/run/s"),
        ("  :4001 ", Address("", 4001), ("127.0.0.1", 4001)),
    ],
)
def test_every_form_is_read(text, address, peer):
    assert galaxy_host_address.parse(text) == address
    assert address.peer == peer
    assert galaxy_host_address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "4001", "localhost", ":", "localhost:", ":0", ":65536", ":-1", ":4001x", ":٤٠٠١", "1.2.3:80"),
        *(
            "999.1.1.1:80",
            "::1:80",
            "[::1]",
            "[::1",
            "[::1]:",
            "[zz]:80",
            "a b:80",
            "-a:80",
            "a..b:80",
            "relative/path",
        ),
        *(
            "unix:relative",
            "unix:",
            "@",
            "/run/",
            "/run/a\nb",
            "127.0.0.1:0000099999",
            "a" * 64 + ":1",
            "/" + "x" * 108,
            "http://",
            "http://:x",
            "tcp://a:1",
        ),
        *(None, 4001, ["127.0.0.1:1"]),
    ],
)
def test_a_bad_one_is_quoted_in_the_error(text):
    with pytest.raises(AddressError) as caught:
        galaxy_host_address.parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["x" * 100_000, ":" * 100_000 + "1", "/" * 5000, ["x"] * 10_000, b"\xff" * 5000])
def test_a_long_one_is_refused_in_a_short_sentence(text):
    with pytest.raises(AddressError) as caught:
        galaxy_host_address.parse(text)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("text", ["/run/\udcff", "@\udc80", "\udcff:80", "/run/\x1b[2J", "/run/\u202egalaxy"])
def test_what_cannot_be_shown_is_refused(text):
    with pytest.raises(AddressError):
        galaxy_host_address.parse(text)


_names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z][a-z0-9]{0,5})?", fullmatch=True).filter(
    lambda name: not name.replace(".", "").isdigit()
)
_paths = st.text(string.ascii_letters + string.digits + "/._-", min_size=1, max_size=60).filter(
    lambda path: not path.endswith("/")
)
_addresses = st.one_of(
    st.builds(
        Address,
        host=st.one_of(st.just(""), _names, st.ip_addresses().map(str)),
        port=st.integers(1, 65535),
        http=st.booleans(),
    ),
    st.builds(Address, path=st.builds("{}{}".format, st.sampled_from("/@"), _paths), http=st.booleans()),
)


@given(_addresses)
def test_what_it_writes_it_reads(address):
    assert galaxy_host_address.parse(str(address)) == address


@given(st.text())
def test_any_text_is_an_address_or_its_error(text):
    try:
        address = galaxy_host_address.parse(text)
    except AddressError as exc:
        assert repr(text) in str(exc)
    else:
        assert galaxy_host_address.parse(str(address)) == address
