-- Cuts a model's queue to what waits, and returns how many tickets it lacks; none if nobody serves the model. The queue
-- expires with those who would take from it. KEYS[1] is the farm's tag, ARGV[2] the list that Celery reads.
local model, queue, limit, lifetime = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local waiting = 0
if tonumber(redis.call('ZSCORE', SERVED, model) or '0') > NOW then
  waiting = number(hget(WAITING, model)) + redis.call('ZCOUNT', model_key(model, 'delayed'), '-inf', NOW)
  waiting = math.min(waiting, limit)
end
local there = redis.call('LLEN', queue)
if waiting == 0 then
  redis.call('DEL', queue)
elseif there > waiting then
  redis.call('LTRIM', queue, 0, waiting - 1)
end
redis.call('PEXPIRE', queue, lifetime)
return math.max(0, waiting - there)
