-- The workers that are alive: {name, data, running, last seen in ms}.
local answers = {}
local members = redis.call('ZRANGE', FARM .. ':workers', 0, -1, 'WITHSCORES')
for i = 1, #members, 2 do
  local data = redis.call('GET', worker_key(members[i]))
  if data then
    local model = cmsgpack.unpack(data).model
    local running = hget(model_key(model, 'holding'), members[i]) or '0'
    answers[#answers + 1] = {members[i], data, running, members[i + 1]}
  end
end
return answers
