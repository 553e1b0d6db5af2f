"""The Corefile: kubeadm's own, what its directives mean, and every mistake as one sentence with its line."""

from __future__ import annotations

import pytest

from controller.dns.corefile import DEFAULT, CorefileError, parse
from controller.dns.names import name_of


def test_kubeadms_corefile_means_what_it_says() -> None:
    (block,) = parse(DEFAULT)
    assert (block.zones, block.port, block.lameduck, block.loadbalance) == (((),), 53, 5.0, True)
    assert (block.health, block.ready, block.prometheus) == (8080, 8181, 9153)
    options = block.kubernetes
    assert options is not None
    assert options.zones == (name_of("cluster.local"), name_of("in-addr.arpa"), name_of("ip6.arpa"))
    assert (options.pods, options.ttl) == ("insecure", 30)
    assert options.fallthrough == (name_of("in-addr.arpa"), name_of("ip6.arpa"))
    (forward,) = block.forwards
    assert (forward.to, forward.max_concurrent) == (("/etc/resolv.conf",), 1000)
    assert block.cache is not None
    assert (block.cache.success, block.cache.no_denial) == (30, (name_of("cluster.local"),))


def test_a_stub_domain_is_a_block_of_its_own() -> None:
    blocks = parse(DEFAULT + "abc.com:53 def.com:1053 {\n  forward . 1.2.3.4 [fd00::1]:5353\n}\n")
    assert [(block.zones, block.port) for block in blocks[1:]] == [
        ((("abc", "com"),), 53),
        ((("def", "com"),), 1053),
    ]
    assert blocks[1].forwards[0].to == ("1.2.3.4 53", "fd00::1 5353")


def test_a_cidr_stands_for_its_reverse_zone() -> None:
    (block,) = parse("10.96.0.0/16 2001:db8::/32 {\n whatever\n}".replace("whatever", "errors"))
    assert block.zones == (name_of("96.10.in-addr.arpa"), name_of("8.b.d.0.1.0.0.2.ip6.arpa"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no server block"),
        (". {\n errors\n", "a '}' is missing"),
        (". {\n errors\n}\n}", "line 4: unexpected '}'"),
        ("cluster.local\n", "line 1: a server block"),
        (". {\n kubernets\n}", "line 2: Unknown directive 'kubernets'"),
        (". {\n kubernetes {\n  pods maybe\n }\n}", "line 3: pods: one of disabled, insecure, verified"),
        (". {\n kubernetes {\n  ttl 4000\n }\n}", "line 3: ttl must be in range"),
        (". {\n forward .\n}", "line 2: forward FROM TO..."),
        (". {\n forward . dns.example.com\n}", "line 2: not an IP address or file"),
        (". {\n forward . tls://9.9.9.9\n}", "line 2: tls://9.9.9.9: only dns://"),
        ("tls://. {\n errors\n}", "line 1: tls://.: only dns://"),
        (". {\n errors\n}\n. {\n errors\n}", "already defined"),
        (". {\n health {\n  lameduck soon\n }\n}", "line 3: 'soon' is no duration"),
        (". {\n bufsize 100\n}", "line 2: bufsize must be within"),
        ('. {\n errors "x\n}', "line 2: No closing quotation"),
        (f"{'a' * 64}.com {{\n errors\n}}", "is not a domain name"),
    ],
)
def test_a_mistake_is_one_sentence(text: str, says: str) -> None:
    with pytest.raises(CorefileError) as refused:
        parse(text)
    assert says in str(refused.value)
