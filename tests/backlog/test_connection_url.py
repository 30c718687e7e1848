"""URLs of Redis: what each form means, and errors that name the part that is wrong and show nothing of it."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlog.connection_url import SCHEMES, Node, RedisAddress, Topology, parse_redis_url

SINGLE, SENTINEL, CLUSTER = Topology.SINGLE, Topology.SENTINEL, Topology.CLUSTER
LOCAL = (Node("h", 6379),)

GOOD = {
    "a host": ("redis://h", RedisAddress(topology=SINGLE, nodes=LOCAL)),
    "a host and a slash": ("redis://h/", RedisAddress(topology=SINGLE, nodes=LOCAL)),
    "a database": ("redis://h:1/7", RedisAddress(topology=SINGLE, nodes=(Node("h", 1),), options={"db": 7})),
    "IPv6": ("redis://[::1]:1", RedisAddress(topology=SINGLE, nodes=(Node("::1", 1),))),
    "IPv6 without a port": ("redis://[::1]", RedisAddress(topology=SINGLE, nodes=(Node("::1", 6379),))),
    "a scheme in capitals": ("REDIS://h", RedisAddress(topology=SINGLE, nodes=LOCAL)),
    "a password alone": ("redis://:p@h", RedisAddress(topology=SINGLE, nodes=LOCAL, options={"password": "p"})),
    "a user and a password that are encoded": (
        "redis://a%40b:%2F%3F%23%25+@h",
        RedisAddress(topology=SINGLE, nodes=LOCAL, options={"username": "a@b", "password": "/?#%+"}),
    ),
    "TLS": (
        "rediss://h?ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=none&ssl_check_hostname=false",
        RedisAddress(
            topology=SINGLE,
            nodes=LOCAL,
            tls=True,
            options={"ssl_ca_certs": "/etc/ca.pem", "ssl_cert_reqs": "none", "ssl_check_hostname": False},
        ),
    ),
    "a unix socket": ("unix:///r/s.sock", RedisAddress(topology=SINGLE, nodes=(), path="/r/s.sock")),
    "a unix socket with options": (
        "unix://u:p@/r%20s?db=2",
        RedisAddress(topology=SINGLE, nodes=(), path="/r s", options={"username": "u", "password": "p", "db": 2}),
    ),
    "options win": (
        "redis://:p@h/1?db=2&password=q&max_connections=5",
        RedisAddress(topology=SINGLE, nodes=LOCAL, options={"db": 2, "password": "q", "max_connections": 5}),
    ),
    "sentinels": (
        "redis+sentinel://u:p@a,b:1/main/3?sentinel_password=s%3F",
        RedisAddress(
            topology=SENTINEL,
            nodes=(Node("a", 26379), Node("b", 1)),
            master="main",
            options={"username": "u", "password": "p", "db": 3},
            sentinel_options={"password": "s?"},
        ),
    ),
    "sentinels with TLS": (
        "rediss+sentinel://a/m%20n",
        RedisAddress(topology=SENTINEL, nodes=(Node("a", 26379),), master="m n", tls=True),
    ),
    "a cluster": (
        "redis+cluster://:p@a:1,[::1]:2,b",
        RedisAddress(
            topology=CLUSTER, nodes=(Node("a", 1), Node("::1", 2), Node("b", 6379)), options={"password": "p"}
        ),
    ),
    "a cluster with its only database": ("redis+cluster://h/0", RedisAddress(topology=CLUSTER, nodes=LOCAL)),
}


@pytest.mark.parametrize(("url", "address"), GOOD.values(), ids=GOOD)
def test_a_url_means(url: str, address: RedisAddress) -> None:
    assert parse_redis_url(url) == address


ENCODE = r"percent-encoded"
BAD = {
    "empty": ("", "must start with redis://"),
    "another scheme": ("http://h", "must start with redis://"),
    "no scheme": ("h:6379", "must start with redis://"),
    "a unix scheme with Sentinel": ("unix+sentinel:///s/main", "must start with"),
    "no host": ("redis://", "a host in address 1"),
    "no second host": ("redis+cluster://a,", "a host in address 2"),
    "a blank in a host": ("redis://a b", "a host in address 1"),
    "no port": ("redis://h:", "as the port of address 1"),
    "a port of letters": ("redis://h:hush", "as the port of address 1"),
    "port 0": ("redis://h:0", "as the port of address 1"),
    "a port above 65535": ("redis+cluster://a,h:65536", "as the port of address 2"),
    "a port in other digits": ("redis://h:٣", "as the port of address 1"),
    "open brackets": ("redis://[::1", r"as \[IPv6\]:port"),
    "text behind brackets": ("redis://[::1]hush", r"as \[IPv6\]:port"),
    "two servers": ("redis://a,b", "must have one address"),
    "a database of letters": ("redis://h/hush", "a number as database"),
    "a negative database": ("redis://h/-1", "a number as database"),
    "more than a database": ("redis://h/1/hush", "must end with the number of a database"),
    "a unix socket on a host": ("unix://hush/path", "absolute path"),
    "a unix socket without a path": ("unix://", "absolute path"),
    "no master": ("redis+sentinel://h", "must name the master"),
    "no master before the database": ("redis+sentinel://h//1", "must name the master"),
    "a database behind the master's": ("redis+sentinel://h/main/1/2", "must end with the number"),
    "a database in a cluster": ("redis+cluster://h/1", "a cluster has only 0"),
    "a database option in a cluster": ("redis+cluster://h?db=1", "a cluster has only 0"),
    "a slash in a password": ("redis://:hu/sh@h", ENCODE),
    "a question mark in a password": ("redis://:hu?sh@h", ENCODE),
    "a hash in a password": ("redis://:hu#sh@h", "%23"),
    "an unknown option": ("redis://h?hush=1", "only these options: username, password"),
    "a timeout": ("redis://h?socket_timeout=1", "only these options"),
    "an option without a value": ("redis://h?max_connections", "max_connections: it must be a number above 0"),
    "an option twice": ("redis://h?db=1&db=2", "the option db once"),
    "an option of TLS without TLS": ("redis://h?ssl_ca_certs=hush", "rediss URL to have the option ssl_ca_certs"),
    "an option of Sentinel without Sentinel": ("redis://h?sentinel_password=hush", "only these options"),
    "a requirement that is none": ("rediss://h?ssl_cert_reqs=hush", "it must be none, optional or required"),
    "a switch that is none": ("rediss://h?ssl_check_hostname=hush", "it must be true or false"),
}


@pytest.mark.parametrize(("url", "rule"), BAD.values(), ids=BAD)
def test_a_wrong_url_is_refused_by_its_rule_and_nothing_of_it_is_shown(url: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule) as caught:
        parse_redis_url(url)
    assert not [piece for piece in ("hush", "hu/", "sh@") if piece in str(caught.value)]


secrets = st.text(min_size=1, max_size=20)


@given(secrets, secrets)
def test_any_user_and_password_may_be_given_percent_encoded(username: str, password: str) -> None:
    userinfo = f"{quote(username, safe='')}:{quote(password, safe='')}"
    address = parse_redis_url(f"redis://{userinfo}@h")
    assert address.options == {"username": username, "password": password}


@given(st.sampled_from(sorted(SCHEMES)), st.text(alphabet="ab:/?#@[],%&=0", max_size=30))
def test_any_text_is_an_address_or_a_value_error_of_its_own(scheme: str, text: str) -> None:
    outcome = outcome_of(f"{scheme}://{text}")
    if isinstance(outcome, str):
        assert outcome.startswith("must ")
    else:
        assert bool(outcome.nodes) != bool(outcome.path)
        assert bool(outcome.master) == (outcome.topology is SENTINEL)


def outcome_of(url: str) -> RedisAddress | str:
    try:
        return parse_redis_url(url)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("url", ["redis://u:hunter2@h", "redis+sentinel://h/main?sentinel_password=hunter2"])
def test_a_password_is_in_no_representation(url: str) -> None:
    assert "hunter2" not in repr(parse_redis_url(url))
