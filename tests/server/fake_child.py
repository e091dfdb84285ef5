"""A child for the tests of the supervisor: speaks its protocol, imports nothing, and misbehaves as told.

Run as `python -I -S fake_child.py ROLE DESCRIPTOR FOLDER`. It leaves FOLDER/ROLE-INDEX-PID when it starts, with
what it was told, a line each. What it does stands in FOLDER/ROLE-INDEX, or else FOLDER/ROLE: a word or none.
"""

import json
import os
import select
import socket
import sys
import time
from pathlib import Path

role, descriptor, folder = sys.argv[1:]
channel = socket.socket(fileno=int(descriptor))
lines = channel.makefile("rb", buffering=0)  # what select does not see must not be read


def say(what: str, **more: object) -> None:
    """One message to the supervisor."""
    channel.sendall(json.dumps({"say": what, **more}).encode() + b"\n")


def behaviour(index: int) -> str:
    """What this child is to do."""
    for name in (f"{role}-{index}", role):
        try:
            return Path(folder, name).read_text().strip()
        except FileNotFoundError:
            continue
    return ""


index = json.loads(lines.readline())["index"]
with Path(folder, f"{role}-{index}-{os.getpid()}").open("w", buffering=1) as told:
    does = behaviour(index)
    reloaded = None
    if does == "die":
        sys.exit(7)
    if does == "fail":
        say("failed", kind="config", message="expected x, got y", where="profiles.search")
        sys.exit(1)
    if does == "garbage":
        channel.sendall(b'not json\n[1]\n{"say": "nothing known"}\n\xff\xfe\n')
    if does != "late":
        say("ready", rows={"item": 3} if role == "keeper" else {}, versions={"profiles.search": "v1"}, in_flight=2)
    while True:
        readable, _, _ = select.select([channel], [], [], 0.05)
        if not readable:
            say("beat", in_flight=2, calls=5, rows={}, versions={"profiles.search": "v1"}, reload=reloaded)
            if behaviour(index) == "grow":
                hoard = bytearray(os.urandom(1024) * 100 * 1024)
            continue
        line = lines.readline()
        if not line:
            told.write("orphaned\n")
            sys.exit(0)
        message = json.loads(line)
        told.write(line.decode().strip() + "\n")
        if message["do"] == "reload":
            reloaded = {"ok": True}
        if message["do"] == "hurry" or (message["do"] == "drain" and does != "dawdle"):
            say("draining")
            if does == "hang":
                time.sleep(60)
            sys.exit(0)
