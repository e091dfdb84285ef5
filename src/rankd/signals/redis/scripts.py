"""What Redis does at once: new rows of one bucket with their records of change, if nobody was faster.

It runs on Redis and Valkey from 6.2 on, as a script (EVALSHA, EVAL where it is not known).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from rankd.kernels.packed import VERSION_AT
from rankd.signals.redis.node import Argument, Command

VERSION: Final = slice(VERSION_AT, VERSION_AT + 5)
"""Where a packed row has its version."""

# KEYS: log, seen, count, rows. ARGV: length of the log (0: none is kept), writer, expiry of tombstones (ms), now (ms),
# from when on applied ids are remembered, how many, their number here and they; then of each row the version that must
# be there ("": no row) and the new row.
APPLY: Final = b"""
local rows, ids = #KEYS - 3, tonumber(ARGV[7])
local at = 7 + ids
local born, again = 0, {}
for i = 1, rows do
  local was = redis.call('GETRANGE', KEYS[3 + i], 9, 14)
  if string.sub(was, 1, 5) ~= ARGV[at + 2 * i - 1] then
    again[#again + 1] = i
  end
  if #was == 6 and string.byte(was, 6) % 2 == 0 then born = born - 1 end
  if string.byte(ARGV[at + 2 * i], 15) % 2 == 0 then born = born + 1 end
end
if #again > 0 then return {0, #again} end
local length, last = tonumber(ARGV[1]), ''
for i = 1, rows do
  local row = ARGV[at + 2 * i]
  if string.byte(row, 15) % 2 == 0 then
    redis.call('SET', KEYS[3 + i], row)
  else
    redis.call('SET', KEYS[3 + i], row, 'PX', ARGV[3])
  end
  if length > 0 then
    last = redis.call('XADD', KEYS[1], 'MAXLEN', '~', length, '*', 'd', row, 'w', ARGV[2])
  end
end
for i = 1, ids do redis.call('ZADD', KEYS[2], ARGV[4], ARGV[7 + i]) end
if ids > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[5])
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - tonumber(ARGV[6]))
end
local count
if born ~= 0 then count = redis.call('INCRBY', KEYS[3], born) else count = redis.call('GET', KEYS[3]) or 0 end
return {1, last, tonumber(count)}
"""

_SHA: Final = hashlib.sha1(APPLY, usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Apply:
    """One call: `keys`: log, seen, count; `rows`: keys of rows, what must be there (whole or None), what is to be."""

    keys: tuple[bytes, bytes, bytes]
    rows: Sequence[tuple[bytes, bytes | None, bytes]]
    ids: Sequence[bytes]
    settings: tuple[Argument, ...]
    """Length of the log, writer, expiry of tombstones, now, since when and how many ids are remembered."""

    def command(self, is_known: bool) -> Command:
        """As it is sent; `is_known`: Redis has the script."""
        arguments: list[Argument] = [*self.settings, len(self.ids), *self.ids]
        for _, before, after in self.rows:
            arguments += [before[VERSION] if before else b"", after]
        keys = [*self.keys, *(key for key, _, _ in self.rows)]
        return ("EVALSHA" if is_known else "EVAL", _SHA if is_known else APPLY, len(keys), *keys, *arguments)


@dataclass(frozen=True, slots=True)
class Applied:
    """What it gave: `last`: the id of the last record of change, b"" if none is kept; `count`: live rows of the
    bucket."""

    last: bytes
    count: int

    @classmethod
    def of(cls, reply: Sequence[Any]) -> Applied | None:
        """None: somebody was faster; nothing was done."""
        return cls(bytes(reply[1]), int(reply[2])) if reply[0] == 1 else None
