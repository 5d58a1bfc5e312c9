"""How a Redis URL is read, and that what is said about one holds no password."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from img2img_shared.errors import Refused, Unavailable
from img2img_shared.ledger import connect
from img2img_shared.ledger.redis_url import read_redis_url
from img2img_shared.queue import celery_app

LOCAL = (("localhost", 6379),)


@pytest.mark.parametrize(
    ("url", "shown", "hosts", "options"),
    [
        ("redis://", "redis://localhost:6379", LOCAL, {"db": 0, "socket_timeout": 5.0}),
        ("redis://host/1", "redis://host:6379/1", (("host", 6379),), {"db": 1}),
        ("redis://host?db=3", "redis://host:6379/3", (("host", 6379),), {"db": 3}),
        ("redis://host/3?db=3", "redis://host:6379/3", (("host", 6379),), {"db": 3}),
        (
            "redis://me:p%40s%2Fs@host:1",
            "redis://host:1",
            (("host", 1),),
            {"username": "me", "password": "p@s/s"},
        ),
        ("redis://:a@b@host", "redis://host:6379", (("host", 6379),), {"password": "a@b"}),
        ("redis://host?password=p%2Fw", "redis://host:6379", (("host", 6379),), {"password": "p/w"}),
        ("redis://[::1]:7/2", "redis://[::1]:7/2", (("::1", 7),), {"db": 2}),
        ("redis://[::1]", "redis://[::1]:6379", (("::1", 6379),), {}),
        (
            "redis://host?socket_timeout=3&health_check_interval=30&client_name=farm&socket_keepalive=no",
            "redis://host:6379",
            (("host", 6379),),
            {
                "socket_timeout": 3.0,
                "health_check_interval": 30,
                "client_name": "farm",
                "socket_keepalive": False,
            },
        ),
        ("rediss://h?ssl_cert_reqs=CERT_NONE", "rediss://h:6379", (("h", 6379),), {"ssl_cert_reqs": "none"}),
        (
            "rediss://h?ssl_cert_reqs=optional&ssl_check_hostname=false",
            "rediss://h:6379",
            (("h", 6379),),
            {"ssl_cert_reqs": "optional", "ssl_check_hostname": False},
        ),
    ],
)
def test_a_server(url: str, shown: str, hosts: object, options: dict[str, Any]) -> None:
    address = read_redis_url(url)
    assert (str(address), address.hosts, address.socket, address.master_name) == (shown, hosts, None, None)
    assert address.is_encrypted == url.startswith("rediss")
    assert {name: address.options.get(name) for name in options} == options


@pytest.mark.parametrize(
    ("url", "shown", "options"),
    [
        ("unix:///run/redis.sock", "unix:///run/redis.sock", {"db": 0}),
        ("unix:///run/a@b.sock?db=3&password=p%40", "unix:///run/a@b.sock/3", {"db": 3, "password": "p@"}),
        (
            "unix://me:p%2F@/run/redis.sock",
            "unix:///run/redis.sock",
            {"username": "me", "password": "p/"},
        ),
    ],
)
def test_a_socket(url: str, shown: str, options: dict[str, Any]) -> None:
    address = read_redis_url(url)
    assert (str(address), address.hosts) == (shown, ())
    assert {name: address.options.get(name) for name in options} == options
    assert "socket_keepalive" not in address.options


@pytest.mark.parametrize(
    "url",
    [
        "sentinel://:x@one,two:7/2?master_name=farm&sentinel_password=y",
        "sentinel://:x@one:26379;sentinel://two:7/2?master_name=farm&sentinel_password=y",
        "redis+sentinel://:x@one,two:7/farm/2?sentinel_password=y",
        "rediss+sentinel://:x@one,two:7/farm?db=2&sentinel_password=y",
    ],
)
def test_sentinels(url: str) -> None:
    address = read_redis_url(url)
    assert address.hosts == (("one", 26379), ("two", 7))
    assert address.master_name == "farm"
    assert address.is_encrypted == url.startswith("rediss")
    assert {name: address.options[name] for name in ("db", "password")} == {"db": 2, "password": "x"}
    assert {"password": "y"}.items() <= address.sentinel_options.items()
    assert str(address) == f"{url.partition(':')[0]}://one:26379,two:7/farm/2"


def test_sentinels_have_the_servers_certificates_but_not_its_password(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    url = f"rediss+sentinel://:x@one/farm?ssl_ca_certs={tmp_path}/ca.pem&socket_timeout=4"
    wanted = {"ssl_ca_certs": f"{tmp_path}/ca.pem", "socket_timeout": 4.0}
    assert wanted.items() <= read_redis_url(url).sentinel_options.items()
    assert "password" not in read_redis_url(url).sentinel_options


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://host", "redis_url is 'http://host': give a redis://, rediss:// or unix:// URL"),
        ("http://:SECRET@host", "a redis://, rediss:// or unix:// URL"),
        (":SECRET@host", "a redis://, rediss:// or unix:// URL"),
        ("SECRET", "a redis://, rediss:// or unix:// URL"),
        ("memory://", "a redis://, rediss:// or unix:// URL"),
        ("redis://:TOP/SECRET@host:6379/0", "%2F for /"),
        ("redis://:a@TOP/SECRET@host:6379/0", "%2F for /"),
        ("redis://:TOP?SECRET@host:6379/0", "%2F for /"),
        ("redis://:TOP#SECRET@host:6379/0", "%2F for /"),
        ("unix://:TOP/SECRET@/run/redis.sock", "%2F for /"),
        ("redis://user:SECRET", "a port from 1 to 65535"),
        ("redis://host:70000", "a port from 1 to 65535"),
        ("redis://host:0", "a port from 1 to 65535"),
        ("redis://user:pass[word@host/0", "encode a password's brackets: %5B for ["),
        ("redis://[::1", "those of an IPv6 address come in pairs"),
        ("redis://SECRET@host", "a password after the user"),
        ("redis://host?username=SECRET", "give a password for the user"),
        ("redis://host/SECRET", "the database's number after the host"),
        ("redis://host/-1", "the database's number after the host"),
        ("redis://host/1/2", "the database's number after the host"),
        ("redis://host/1?db=2", "option db and the path say different things"),
        (
            "redis://:SECRET@host?password=SECRETER",
            "option password and the login before the host say different things",
        ),
        ("redis://host?db=x", "option db must be a whole number"),
        ("redis://host?socket_timeout=1", "option socket_timeout must be a number of seconds from 3 to 60"),
        ("redis://host?socket_timeout=nan", "option socket_timeout must be a number of seconds from 3 to 60"),
        ("redis://host?client_name=a%20b", "option client_name must be a name without spaces"),
        (
            "redis://host?decode_responses=true",
            "option 'decode_responses' is unknown; known are db, username",
        ),
        ("redis://host?protocol=3", "option 'protocol' is unknown"),
        ("redis://host?db=1&db=2", "the option db once"),
        ("redis://host?pasword=SECRET", "option 'pasword' is unknown"),
        ("redis://host?SECRET", "write options as ?name=value"),
        ("redis://host?ssl_cert_reqs=none", "the option ssl_cert_reqs needs a rediss:// URL"),
        ("rediss://host?ssl_cert_reqs=maybe", "option ssl_cert_reqs must be none, optional or required"),
        ("rediss://host?ssl_ca_certs=/nowhere", "option ssl_ca_certs must be a file that can be read"),
        ("unix://", "the path of a socket"),
        ("unix:///run/redis.sock?socket_keepalive=1", "a unix socket has none"),
        ("redis://one,two", "give one host"),
        ("redis://host?master_name=farm", "a URL of sentinels"),
        ("redis://host?sentinel_password=SECRET", "a URL of sentinels"),
        ("sentinel://one,two/0", "needs the option master_name"),
    ],
)
def test_what_cannot_work_is_refused_in_a_line_without_its_secrets(url: str, reason: str) -> None:
    for use in (read_redis_url, connect, celery_app):
        with pytest.raises(Refused) as raised:
            use(url)
        said = str(raised.value)
        assert reason in said
        assert "SECRET" not in said
        assert "TOP" not in said
        assert "\n" not in said


@given(st.text(min_size=1), st.sampled_from(("redis://:{}@h:1/0", "unix://u:{}@/s", "sentinel://:{}@h/m/1")))
@example("a/b", "redis://:{}@h:1/0")
def test_no_raw_password_is_told(noise: str, form: str) -> None:
    url = form.format(f"SECRET{noise}SECRET")
    try:
        address = read_redis_url(url)
    except Refused as error:
        said = str(error)
    else:
        said = f"{address} {address!r} {celery_app(url).connection_for_write().as_uri()}"
    assert "SECRET" not in said


@pytest.mark.parametrize(
    "url",
    ["unix://:SECRET@/nowhere/redis.sock", "redis://:SECRET@localhost:1", "sentinel://:SECRET@localhost:1/m"],
)
def test_a_server_that_is_away_is_named_without_its_password(url: str) -> None:
    with pytest.raises(Unavailable, match="does not answer") as raised:
        connect(url)
    assert "SECRET" not in str(raised.value)
    assert str(read_redis_url(url)) in str(raised.value)
