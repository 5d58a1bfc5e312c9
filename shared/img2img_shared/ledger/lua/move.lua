-- A worker gives up a model ('': none) to load another; 0 if others have decided the same since it looked. From now on it
-- counts as having the new one, for as long as it beats.
local worker, from, to, lifetime, had, have = unpack(ARGV)
local function loaded(model) return redis.call('ZCOUNT', model_key(model, 'loaded'), NOW, '+inf') end
if loaded(to) > tonumber(have) or (from ~= '' and loaded(from) < tonumber(had)) then return 0 end
if from ~= '' then
  redis.call('ZREM', model_key(from, 'loaded'), worker)
  -- it was being emptied for a suspect; now another worker may be
  if redis.call('GET', model_key(from, 'reserved')) == worker then redis.call('DEL', model_key(from, 'reserved')) end
  redis.call('DEL', reserved_key(worker))
end
redis.call('ZADD', model_key(to, 'loaded'), NOW + tonumber(lifetime), worker)
redis.call('PEXPIRE', model_key(to, 'loaded'), lifetime)
redis.call('ZADD', model_key(to, 'loading'), NOW, worker)
redis.call('PEXPIRE', model_key(to, 'loading'), LOADS)
redis.call('HDEL', STARVED, to)
redis.call('DEL', BOARD)
return 1
