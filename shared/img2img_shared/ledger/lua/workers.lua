-- The named workers, as far as they are alive: {name, data, running, last seen in ms}.
local answers = {}
for _, worker in ipairs(ARGV) do
  local data = redis.call('GET', worker_key(worker))
  local seen = redis.call('ZSCORE', WORKERS, worker)
  if data and seen then
    answers[#answers + 1] = {worker, data, hget(holding_key(worker), 'claims') or '0', seen}
  end
end
return answers
