-- The demand, by model: {model, images that can be claimed now, images that wait for their next try, images being
-- rendered}. Models with none of these and no live worker are left out.
local models = union(
  redis.call('HKEYS', WAITING), redis.call('HKEYS', MODELS), redis.call('ZRANGEBYSCORE', SERVED, NOW, '+inf')
)

local answers = {}
for _, model in ipairs(models) do
  local delayed, due = model_key(model, 'delayed'), 0
  due = redis.call('ZCOUNT', delayed, '-inf', NOW)
  local waiting = number(hget(WAITING, model)) + due
  local later, running = redis.call('ZCARD', delayed) - due, redis.call('ZCARD', model_key(model, 'leases'))
  local is_served = tonumber(redis.call('ZSCORE', SERVED, model) or '0') > NOW
  if waiting + later + running > 0 or is_served then
    answers[#answers + 1] = {model, waiting, later, running}
  end
end
return answers
