"""`hyperfill sandbox`: an embedded source and target to play with."""

from __future__ import annotations

from cyclopts import App

from hyperfill.cli.options import Json

sandbox_app = App(name="sandbox", help="An embedded source and target to play with; nothing is installed.")


@sandbox_app.command
def start(*, json: Json = False) -> int:
    """Start both servers and print their conninfos: eval "$(hyperfill sandbox start)" hands them to other commands."""
    from hyperfill.cli.output import say
    from hyperfill.sandbox import sandbox_start
    from hyperfill.signals import Signals

    with Signals():
        _show(sandbox_start(report=say), as_json=json)
    return 0


@sandbox_app.command
def stop(*, json: Json = False) -> int:
    """Stop both servers and delete their data."""
    from hyperfill.cli.output import print_json, say
    from hyperfill.sandbox import sandbox_stop
    from hyperfill.signals import Signals

    with Signals():
        stopped = sandbox_stop()
    say("the sandbox is stopped and its data deleted" if stopped else "there was no sandbox")
    if json:
        print_json({"state": "stopped"})
    return 0


@sandbox_app.command
def status(*, json: Json = False) -> int:
    """Say whether both servers run, and print their conninfos."""
    from hyperfill.cli.output import print_json, say
    from hyperfill.sandbox import sandbox_status

    found = sandbox_status()
    if found is not None:
        _show(found, as_json=json)
        return 0
    say("the sandbox does not run; hyperfill sandbox start starts it")
    if json:
        print_json({"state": "stopped"})
    return 0


def _show(sandbox: object, *, as_json: bool) -> None:
    """Conninfos on stdout, in words that a shell can evaluate."""
    import shlex

    from hyperfill.cli.output import print_json
    from hyperfill.sandbox import Sandbox

    assert isinstance(sandbox, Sandbox)
    if as_json:
        print_json({"state": "running", "source": sandbox.source, "target": sandbox.target})
        return
    print(f"export HYPERFILL_SOURCE={shlex.quote(sandbox.source)}")
    print(f"export HYPERFILL_TARGET={shlex.quote(sandbox.target)}")
