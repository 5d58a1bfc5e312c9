"""How many images a tenant has under way, counted over its open jobs: flat in the jobs' size."""

from collections.abc import Callable
from typing import Any

import redis

from img2img_gateway.errors import Problem
from img2img_gateway.keys import ApiKey
from img2img_shared.connect import answering
from img2img_shared.errors import Refused
from img2img_shared.keys import farm_key

# Reads the counters of jobs as img2img_shared.keys describes them. A job that is noted but not in the ledger
# is being written just now, or its gateway died before: after a minute it counts no more.
_RESERVE = """
local farm, tenant, job, n, quota, once = KEYS[1], unpack(ARGV)
local open = farm .. ':gateway:open:' .. tenant
local now = tonumber(redis.call('TIME')[1])
if once ~= '' and redis.call('EXISTS', farm .. ':once:' .. tenant .. ':' .. once) == 1 then return -1 end
local sum = 0
local noted = redis.call('HGETALL', open)
for i = 1, #noted, 2 do
  local c = redis.call('HMGET', farm .. ':job:' .. noted[i], 'n', 'done', 'failed', 'finished')
  if c[1] and not c[4] then
    sum = sum + c[1] - c[2] - c[3]
  else
    local size, since = string.match(noted[i + 1], '^(%d+) (%d+)$')
    if not c[1] and now - since < 60 then sum = sum + size else redis.call('HDEL', open, noted[i]) end
  end
end
if sum + n > tonumber(quota) then return sum end
redis.call('HSET', open, job, n .. ' ' .. now)
return -1
"""


class Quota:
    """Holds keys to what they may have under way."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._farm = farm_key(prefix)
        self._script: Callable[..., Any] = client.register_script(_RESERVE)
        self._call: Callable[..., Any] = client.execute_command

    def reserve(self, key: ApiKey, job_id: str, n: int, idempotency_key: str | None) -> None:
        """Count a job of `n` images that is about to be written; a repeat of an earlier one counts nothing.

        Raises:
            Refused: it is larger than the key's jobs may be.
            Problem: 429, too many images of the tenant are under way.
            Unavailable: Redis does not answer.
        """
        if key.largest is not None and n > key.largest:
            raise Refused("inputs", f"{n} images", f"at most {key.largest} images in a job with this key")
        if key.quota is None:
            return
        with answering():
            arguments = [key.tenant, job_id, n, key.quota, idempotency_key or ""]
            under_way = int(self._script(keys=[self._farm], args=arguments))
        if under_way >= 0:
            raise Problem(
                429,
                f"{under_way} images are under way, and {n} more would exceed this key's {key.quota}",
                field="inputs",
                headers={"Retry-After": "10"},
            )

    def drop(self, key: ApiKey, job_id: str) -> None:
        """A reserved job was not written after all."""
        with answering():
            self._call("HDEL", f"{self._farm}:gateway:open:{key.tenant}", job_id)
