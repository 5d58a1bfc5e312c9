-- How many images of a model can be claimed now, counted up to a limit.
local model, limit = ARGV[1], tonumber(ARGV[2])
local due = redis.call('ZCOUNT', model_key(model, 'delayed'), '-inf', NOW)
return math.min(number(hget(WAITING, model)) + due, limit)
