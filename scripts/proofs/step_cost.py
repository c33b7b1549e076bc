"""What perstack costs: steps, many jobs, streamed chunks, first requests, against bare loops."""

import os

from _stage import conclude, say

from benchmarks import concurrency, first_request, step, stream

PARTS = {
    "a step, everything durable, spans exported": step.measure,
    "many jobs at once, 200 ms to each answer of the model, which share a tool of the process, or"
    " one skill server, on both sides": concurrency.measure,
    "a streamed chunk, from the socket to the listener": stream.measure,
    "from the start of a process to its first request": first_request.measure,
}


def main() -> None:
    """Measure one part after the other, all contestants of a part in turn."""
    failed: list[str] = []
    for title, measure in PARTS.items():
        before = os.getloadavg()[0]
        rows = measure()
        say(f"\n{title} (load {before:.1f} before, {os.getloadavg()[0]:.1f} after)")
        for row in rows:
            say(f"  {row}")
        failed += [row.title for row in rows if not row.holds]
    say("")
    conclude(
        "step-cost",
        holds=not failed,
        seen=f"over their limits: {'; '.join(failed)}" if failed else "every limit is kept",
    )


if __name__ == "__main__":
    main()
