"""The command line: what a user types. Parses, then hands over to the module that does it.

The words, their help and their examples are in ``cli_parsers``. A wrong command line is
one sentence and exit status 2; so is every other error of the PodwireError tree. Anything else is a
bug of ours and shows its traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from controller.api.errors import PodwireError, UsageError
from scenarios import catalogue, cli_parsers

WELCOME = """\
podwire: Kubernetes Services, packet by packet.

Lessons (begin with nodeport and clusterip; each starts a cluster of its own and takes it away again)
{lessons}

A lab that stays
  ./lab up [MANIFEST ...]       start a cluster, apply manifests (-d: in the background)
  ./lab ps                      the labs that run
  ./lab down                    end one
  ./lab mirror --kubeconfig F   one that follows a real cluster, read-only

In a running lab, from a second terminal
  ./lab kubectl ...             kubectl with the lab's kubeconfig (--lab NAME first, if several run)
  ./lab get KIND [NAME]         what the API server holds (-A, -w, -o wide, ...)
  ./lab exec POD -- COMMAND     run a command in a pod (or node, or client)
  ./lab ssh NODE                a shell on a node
  ./lab url SERVICE             where a NodePort answers (--local: for your own browser)
  ./lab tunnel                  reach ClusterIPs from the client, as by `minikube tunnel`
  ./lab flows NODE              the OpenFlow rules of a node, and which object each is there for
  ./lab capture [LINK ...]      record packets as pcapng
  ./lab graph [FILE ...]        who would talk to whom (of files: without a lab); --try tries it
  ./lab shell                   your shell with KUBECONFIG set (--inside: among the lab's namespaces)

The house
  ./lab list                    the lessons, one line each
  ./lab test                    every test; ./lab bench: every measurement
  ./lab conformance             Kubernetes' own end-to-end cases, and the score
  ./lab setup                   install what is missing (setup python: Kubernetes' clients for pods, too)

./lab COMMAND --help explains each, with examples."""


def main(argv: Sequence[str]) -> int:
    """Run one command line; returns the exit status."""
    try:
        return _run(list(argv))
    except PodwireError as error:
        print(f"podwire: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `./lab flows node1 | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(argv: list[str]) -> int:
    lessons = catalogue.lessons()
    if not argv or (argv[0] in ("help", "-h", "--help") and len(argv) == 1):
        print(WELCOME.format(lessons="\n".join(f"  ./lab {e.name:<24}{e.summary}" for e in lessons)))
        return 0
    commands = cli_parsers.commands()
    names = [entry.name for entry in lessons]
    if argv[0] == "help":
        argv = [argv[1], "--help"]
    if argv[0] not in commands and argv[0] not in names:
        hint = catalogue.nearest(argv[0], [*commands, *names, "test", "setup"])
        raise UsageError(f"there is no command or lesson `{argv[0]}`.{hint} `./lab` lists what there is.")
    if argv[0] in names:
        from scenarios import lesson

        entry = next(entry for entry in lessons if entry.name == argv[0])
        return lesson.main(argv[0], cli_parsers.lesson_parser(entry).parse_args(argv[1:]))
    if argv[0] == "bench":
        from tests.bench.__main__ import main as bench

        return int(bench(argv[1:]))
    if argv[0] == "conformance":
        from tests.conformance.__main__ import main as conformance

        return int(conformance(argv[1:]))
    parser = commands[argv[0]]
    if argv[0] == "kubectl" and argv[1:] not in (["--help"], ["-h"]):
        return _kubectl(argv[1:])
    command, extra = _split(argv[1:]) if argv[0] in ("exec", "ssh") else (argv[1:], [])
    options = parser.parse_args(command)
    if extra:
        options.command = extra
    options.argv = argv
    from scenarios import cli_inside, cli_labs

    return {**cli_labs.COMMANDS, **cli_inside.COMMANDS}[argv[0]](options)


def _kubectl(words: list[str]) -> int:
    """Everything is kubectl's but a leading --lab NAME."""
    from scenarios import cli_labs

    lab = None
    if words[:1] == ["--lab"]:
        lab, words = (words[1] if len(words) > 1 else None), words[2:]
    elif words and words[0].startswith("--lab="):
        lab, words = words[0].removeprefix("--lab="), words[1:]
    return cli_labs.COMMANDS["kubectl"](argparse.Namespace(lab=lab, words=words))


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Arguments before and after ``--``: what follows belongs to the command, whatever it looks like."""
    if "--" not in argv:
        return argv, []
    at = argv.index("--")
    return argv[:at], argv[at + 1 :]
