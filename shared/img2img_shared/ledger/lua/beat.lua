-- A worker is alive for another while: it has `model` loaded, claims images if `claims` is 1, and can load the others.
-- Returns the hash of the checkpoint that its model's name stands for, its order, and how many images others have done
-- that it could not do.
local worker, data, lifetime, model, hash, claims = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6]
redis.call('SET', worker_key(worker), data, 'PX', lifetime)
-- of before the clock was set back, here and below; by a moment, it loses nobody
redis.call('ZREMRANGEBYSCORE', WORKERS, NOW + lifetime + 1, '+inf')
redis.call('ZADD', WORKERS, NOW, worker)
redis.call('ZREMRANGEBYSCORE', WORKERS, '-inf', NOW - lifetime - 1)
local function remove_ghosts(listed) redis.call('ZREMRANGEBYSCORE', listed, NOW + LONGEST / 2 + 1, '+inf') end
local function enlist(name, part)
  redis.call('ZADD', model_key(name, part), NOW + lifetime, worker)
  redis.call('ZREMRANGEBYSCORE', model_key(name, part), '-inf', NOW)
  redis.call('PEXPIRE', model_key(name, part), lifetime)
end
if claims == '1' then enlist(model, 'loaded') else redis.call('ZREM', model_key(model, 'loaded'), worker) end
remove_ghosts(SERVED)
for _, name in ipairs({model, unpack(ARGV, 7)}) do
  remove_ghosts(model_key(name, 'loaded'))
  remove_ghosts(model_key(name, 'workers'))
  enlist(name, 'workers')
  redis.call('ZADD', SERVED, 'GT', NOW + lifetime, name)
end
redis.call('ZREMRANGEBYSCORE', SERVED, '-inf', NOW)
if hash ~= '' then redis.call('HSETNX', MODELS, model, hash) end -- Redis may have forgotten it
redis.call('PEXPIRE', order_key(worker), ORDERS)
return {hget(MODELS, model), redis.call('GET', order_key(worker)), redis.call('GET', outdone_key(worker)) or '0'}
