-- A worker is alive for another while. Gives the hash of the checkpoint that its model's name stands for, what it is
-- ordered to do, and how many images that it could not do others have done.
local worker, data, lifetime, model, hash = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
redis.call('SET', worker_key(worker), data, 'PX', lifetime)
redis.call('ZADD', WORKERS, NOW, worker)
redis.call('ZREMRANGEBYSCORE', WORKERS, '-inf', NOW - lifetime - 1)
redis.call('ZADD', model_key(model, 'workers'), NOW + lifetime, worker)
redis.call('ZREMRANGEBYSCORE', model_key(model, 'workers'), '-inf', NOW)
redis.call('PEXPIRE', model_key(model, 'workers'), lifetime)
redis.call('ZADD', SERVED, 'GT', NOW + lifetime, model)
redis.call('ZREMRANGEBYSCORE', SERVED, '-inf', NOW)
if hash ~= '' then redis.call('HSETNX', MODELS, model, hash) end -- Redis may have forgotten it
redis.call('PEXPIRE', order_key(worker), ORDERS)
return {hget(MODELS, model), redis.call('GET', order_key(worker)), redis.call('GET', outdone_key(worker)) or '0'}
