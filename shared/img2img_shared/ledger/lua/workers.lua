-- Those of the named workers that are alive: {name, data, running, last seen in ms}.
local answers = {}
for _, worker in ipairs(ARGV) do
  local data = redis.call('GET', worker_key(worker))
  local seen = redis.call('ZSCORE', WORKERS, worker)
  if data and seen then
    answers[#answers + 1] = {worker, data, number(hget(holding_key(worker), 'claims')), seen}
  end
end
return answers
