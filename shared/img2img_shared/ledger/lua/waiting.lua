-- How many images of a model could be given out now, counted up to a limit.
local model, limit = ARGV[1], tonumber(ARGV[2])
local sum = redis.call('ZCOUNT', model_key(model, 'delayed'), '-inf', NOW)
for _, job in ipairs(redis.call('ZRANGE', model_key(model, 'suspected'), 0, limit - 1)) do
  sum = sum + redis.call('ZCARD', job_key(job, 'suspects'))
end
-- every job in the schedule has at least one
for _, job in ipairs(redis.call('ZRANGE', model_key(model, 'schedule'), 0, limit - 1)) do
  if sum >= limit then break end
  local h = redis.call('HMGET', job_key(job), 'n', 'next')
  sum = sum + h[1] - h[2] + redis.call('ZCARD', job_key(job, 'back'))
end
return math.min(sum, limit)
