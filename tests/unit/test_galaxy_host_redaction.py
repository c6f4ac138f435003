import pytest

from galaxy_host_redaction import blank, printable

S = "hunter2"
# what is left of the secret if only a part of it is blanked
PIECES = ("hunter2", "dragon")


@pytest.mark.parametrize(
    "line",
    [
        # forms that were not blanked once
        f"Authorization: Bearer {S}",
        f"> Authorization: Basic {S}==",
        f'"Authorization": "Bearer {S} dragon", "Host": "x"',
        f"('Authorization', 'Bearer {S}')",
        f"bearer {S}",
        f"api-key: {S}",
        f"x-api-key: {S}",
        f"apiKey={S}",
        f"API KEY = {S}",
        f'password = "{S} dragon"',
        f"password='{S} dragon' host=db",
        f'password="{S} \\" dragon"',
        f'password="{S} dragon',
        f"password: {S} dragon",
        f"password = {S} dragon",
        f"{{'password': '{S} dragon', 'host': 'db'}}",
        f"{{'password': b'{S} dragon'}}",
        f'{{"db": "{{\\"password\\": \\"{S} dragon\\"}}"}}',
        f"postgresql://galaxy:{S}/dragon@db/galaxy",
        f"postgresql://galaxy:{S}@dragon@db/galaxy",
        f"postgresql://galaxy:{S}?dragon@db/galaxy",
        f"postgresql://galaxy:{S}'dragon@db/galaxy",
        f"amqp://:{S}@mq//",
        f"redis://{S}@redis:6379/0",
        f"https://{S}@github.example.org/x",
        f"GET /api/histories?key={S} HTTP/1.1",
        f"GET /login?redirect=%2F&x={S}&y=dragon",
        f"Cookie: galaxysession={S}; other=dragon",
        f"Set-Cookie: galaxysession={S}; Path=/",
        f"'HTTP_COOKIE': 'a={S}; b=dragon'",
        f"galaxysession={S}",
        # other forms of the same kind
        f"DB_PASSWORD={S}",
        f"PGPASSWORD={S} psql",
        f"os.environ['VAULT_TOKEN'] = '{S}'",
        f"os.environ[VAULT_TOKEN] = {S}",
        f"id_secret: {S}",
        f"id_secret={S}",
        f"aws_secret_access_key => {S}",
        f"secret := {S}",
        f"client.secret.value={S}",
        f"passphrase: {S}",
        f"psql --password {S} -h db",
        f"tool --db-token '{S} dragon' x",
        f"tool --api-key={S}",
        f"<password>{S} dragon</password>",
        f"<db:password>{S}</db:password>",
        f"key={S}",
        f"key: {S}",
        f"\x1b[1mpassword\x1b[0m=\x1b[32m{S}\x1b[0m",
        f"PassWord\t=\t{S}",
        f"token {S}",
        f"MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7{S}hunter2hunter2",
    ],
)
def test_secrets_go(line):
    shown = blank(line)
    assert not any(piece in shown for piece in PIECES), shown
    assert "**********" in shown


@pytest.mark.parametrize(
    "line",
    [
        "*** Starting uWSGI 2.0.31 (64bit) on [Wed Nov 25 01:44:00 2026] ***",
        "bind(): Address already in use [core/socket.c line 769]",
        'psycopg2.OperationalError: FATAL: password authentication failed for user "galaxy"',
        "KeyError: 'galaxy'",
        "ModuleNotFoundError: No module named 'tokenize'",
        "unable to load app 0 (mountpoint='') (callable not found or import error)",
        "/srv/galaxy/server/lib/galaxy/webapps/galaxy/buildapp.py line 12 in uwsgi_app",
        "Is it there? No.",
        "see http://127.0.0.1:8080/path and admin@example.org",
        "token is not valid",
        "basic auth failed",
        "",
    ],
)
def test_what_helps_stays(line):
    assert blank(line) == line


def test_what_stands_around_a_secret_stays():
    assert blank("postgresql://galaxy:hunter2@db/galaxy refused") == "postgresql://galaxy:**********@db/galaxy refused"
    assert blank("host=db password=hunter2 port=5432") == "host=db password=********** port=5432"
    assert blank('{"token": "x", "host": "db"}') == '{"token":**********, "host": "db"}'
    assert blank("GET /api?key=x HTTP/1.1") == "GET /api?********** HTTP/1.1"


def test_a_terminal_is_left_alone():
    assert printable("a\x1b[31mred\x1b[0m\tb") == "ared\tb"
    assert printable("\x1b]0;title\x07 \r\n \x9b31m \u202e \u2028 \udcff") == (
        r"\x1b]0;title\x07 \r\n \x9b31m \u202e \u2028 \udcff"
    )
    assert printable("Grüße, 世界") == "Grüße, 世界"


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "password",
            "token=",
            "://",
            "u:p@",
            "--",
            " --",
            "--password ",
            "?",
            '"',
            "\\",
            '\\"',
            "'",
            "eyJ-",
            "=",
            ": ",
        ),
        *(
            "<",
            "<password>",
            "bearer ",
            "basic ",
            " ",
            "\t",
            "\x1b[",
            "\x1b[0",
            "A",
            "key ",
            'token="',
            'token=\\"',
            "token'",
        ),
    ],
)
def test_a_line_without_end(unit):
    """However often the text repeats, this is quick. A pattern that reads it twice at each place would take minutes."""
    shown = blank(unit * (1 << 19))
    assert len(shown) <= 4 * 4097
