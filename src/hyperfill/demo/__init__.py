"""`hyperfill demo`: the method of dual-write and backfill, shown on real data and two embedded servers.

`story` tells it; `data` finds and loads the flights, `servers` makes a source and a target and takes
them away again, `writer` is the application, `command` runs hyperfill as a person would, `compare`
looks at both sides, `page` prints.
"""

from hyperfill.demo.story import demo

__all__ = ["demo"]
