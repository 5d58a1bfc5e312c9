-- A worker ends: nobody has to wait for its last beat to expire.
local worker = ARGV[1]
local data = redis.call('GET', worker_key(worker))
redis.call('DEL', worker_key(worker))
redis.call('ZREM', WORKERS, worker)
if not data then return 0 end
local said = cmsgpack.unpack(data)
local models = {said.model}
for name in pairs(said.others or {}) do models[#models + 1] = name end
for _, model in ipairs(models) do
  redis.call('ZREM', model_key(model, 'loaded'), worker)
  redis.call('ZREM', model_key(model, 'workers'), worker)
  local last = redis.call('ZREVRANGE', model_key(model, 'workers'), 0, 0, 'WITHSCORES')[2]
  if last then redis.call('ZADD', SERVED, last, model) else redis.call('ZREM', SERVED, model) end
end
return 1
