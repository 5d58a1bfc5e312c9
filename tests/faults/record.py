"""Records what jobs look like in the ledger and the store, so that later versions can be tested with them.

python -m tests.faults.record FOLDER: run once for each wire version, with the code that is released with it.
"""

import sys
from pathlib import Path
from typing import Any

import msgpack
import redis

from img2img_producer import Farm
from img2img_shared.job import result_key
from img2img_shared.ledger import Ledger
from img2img_shared.ledger.connect import connect
from img2img_shared.ledger.keys import farm_key
from img2img_shared.settings import Settings
from img2img_shared.store import Store
from img2img_shared.wire import encode_job
from tests.faults.farm import picture
from tests.servers import RedisServer, raw_client

MODEL = "released"


def record(folder: Path, url: str) -> None:
    """A farm that was stopped in the middle: one job in every state that an image can have, one paused."""
    client, farm_redis = raw_client(url), connect(url)
    store = Store(folder / "store")
    with Farm(settings=Settings(redis_url=url, store_url=str(folder / "store"), data_dir=folder)) as farm:
        inputs: list[Any] = [{"image": picture(number), "name": f"picture {number}"} for number in range(8)]
        inputs[1] |= {"mask": picture(3), "prompt": "rain", "negative_prompt": "sun", "seed": 7}
        job = farm.submit(
            inputs,
            model=MODEL,
            priority=3,
            idempotency_key="released",
            prompt="a (cat:1.2)",
            steps=3,
            sampler_name="DPM++ 2M Karras",
            denoising_strength=0.5,
            width=64,
            height=64,
            seed=5,
            subseed=6,
        )
        paused = farm.submit(inputs[:2], model=MODEL, steps=2, width=64, height=64, seed=1, subseed=2)
        farm.pause(paused)
    ledger = Ledger(farm_redis)
    claims = [ledger.claim(MODEL, "released-worker", f"nonce-{index}", idle=False) for index in range(7)]
    done, failed, back, dead = claims[:3], claims[3], claims[4], claims[5]  # the last one runs
    for claim in done:
        assert claim is not None
        store.put(result_key(job, claim.index, "png"), picture(claim.index))
        ledger.finish(claim)
    assert failed is not None
    assert back is not None
    assert dead is not None
    ledger.fail(failed, "image: b'' is not allowed; allowed: a picture")
    ledger.release(back)
    ledger.take_back(MODEL, "janitor")
    tag = farm_key("img2img")
    client.hset(f"{tag}:model:tick:{MODEL}", "grace", 0)
    client.zadd(f"{tag}:model:leases:{MODEL}", {dead.nonce: 1})
    ledger.take_back(MODEL, "janitor")
    keys = sorted(key for key in client.scan_iter(f"{tag}:*") if client.pttl(key) < 0)
    commands = [command for key in keys for command in commands_for(client, key)]
    (folder / "ledger.msgpack").write_bytes(msgpack.packb(commands))
    (folder / "job.msgpack").write_bytes(encode_job(ledger.job(job, "default")))
    client.close()
    farm_redis.close()


def commands_for(client: redis.Redis, key: bytes) -> list[list[Any]]:
    """The command that writes a key as it is."""
    answers: Any = client  # redis-py types answers as either sync or async ones
    match answers.type(key):
        case b"hash":
            return [["HSET", key, *(part for pair in answers.hgetall(key).items() for part in pair)]]
        case b"zset":
            members = answers.zrange(key, 0, -1, withscores=True)
            return [["ZADD", key, *(part for member, score in members for part in (repr(score), member))]]
        case b"list":
            return [["RPUSH", key, *answers.lrange(key, 0, -1)]]
        case b"stream":
            return [
                ["XADD", key, entry, *(part for pair in fields.items() for part in pair)]
                for entry, fields in answers.xrange(key)
            ]
        case _:
            return [["SET", key, answers.get(key)]]


def main() -> None:
    """Record into the folder that the command line names."""
    server = RedisServer()
    try:
        record(Path(sys.argv[1]), server.url)
    finally:
        server.remove()


if __name__ == "__main__":
    main()
