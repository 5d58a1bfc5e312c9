-- The hash of the checkpoint that a model's name stands for: the first that was said, or, where `rebind`, this one.
local model, hash, rebind = unpack(ARGV)
if rebind == '1' then
  redis.call('HSET', MODELS, model, hash)
else
  redis.call('HSETNX', MODELS, model, hash)
end
return hget(MODELS, model)
