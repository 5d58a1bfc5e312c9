-- A worker is alive for another while.
local worker, data, lifetime = ARGV[1], ARGV[2], tonumber(ARGV[3])
redis.call('SET', worker_key(worker), data, 'PX', lifetime)
redis.call('ZADD', FARM .. ':workers', NOW, worker)
redis.call('ZREMRANGEBYSCORE', FARM .. ':workers', '-inf', NOW - lifetime - 1)
return 1
