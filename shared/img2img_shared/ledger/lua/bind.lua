-- Binds a model's name to the hash of a checkpoint: the first one, or with `rebind` this one. Returns the bound hash.
local model, hash, rebind = unpack(ARGV)
if rebind == '1' then
  redis.call('HSET', MODELS, model, hash)
else
  redis.call('HSETNX', MODELS, model, hash)
end
return hget(MODELS, model)
