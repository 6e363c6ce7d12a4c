"""What a peer's program does: it loads a model, says so, and then measures what it is told to.

One JSON value a line on its input and output. What it is told: `{"do": "prefill", "prompts": [[..]]}`
or `{"do": "decode", "prompts": [[..], ..], "tokens": 64}`, prompts as tokens; its answer: `{"seconds":
1.5}`, or `{"error": ".."}` and its end.
"""

import json
import os
import sys


def serve(load):
    """Runs the peer that `load` makes, an object with a `version`, `prefill` and `decode`."""
    # Libraries write to the standard output as they like; the answers have it to themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value):
        print(json.dumps(value), file=answers, flush=True)

    try:
        peer = load()
        answer({"version": peer.version})
        for line in sys.stdin:
            order = json.loads(line)
            if order["do"] == "prefill":
                [prompt] = order["prompts"]
                answer({"seconds": peer.prefill(prompt)})
            else:
                answer({"seconds": peer.decode(order["prompts"], order["tokens"])})
    except Exception as error:  # whatever a library may throw, it ends this peer alone
        answer({"error": " ".join(f"{type(error).__name__}: {error}".split())[:300]})
