-- The board, by which workers decide which model to load: for each model with claimable images or live workers {model,
-- workers that have it loaded, ms for which nobody has had it, whether it has a janitor, workers that recently died while
-- loading it, seconds of a load, seconds of an image, claimable images, "PRIORITY TENANT", images, "PRIORITY TENANT",
-- images, ...}. It is cached for a moment, since a thousand workers ask for it.
local KEPT = 1000 -- ms
local SHARES = 64 -- at most so many of a model's priorities and tenants, the first of them included
local kept = redis.call('GET', BOARD)
if kept and redis.call('PTTL', BOARD) <= KEPT then return kept end

local models = union(
  redis.call('HKEYS', WAITING), redis.call('ZRANGEBYSCORE', SERVED, NOW, '+inf'), redis.call('HKEYS', STARVED)
)

local function shares_of(model)
  local waits = model_key(model, 'waits')
  if redis.call('HLEN', waits) <= SHARES then return redis.call('HGETALL', waits) end
  local found = redis.call('HRANDFIELD', waits, SHARES, 'WITHVALUES')
  local first = redis.call('ZRANGE', model_key(model, 'tenants'), 0, 0)[1]
  for i = 1, #found, 2 do
    if found[i] == first then return found end
  end
  if first then
    found[1], found[2] = first, hget(waits, first) or '1'
  end
  return found
end

local function standing_of(model)
  promote(model) -- nobody claims images of a model that nobody has loaded
  local waiting = number(hget(WAITING, model))
  local workers = redis.call('ZCOUNT', model_key(model, 'loaded'), NOW, '+inf')
  local starved = 0
  if waiting > 0 and workers == 0 then
    redis.call('HSETNX', STARVED, model, NOW)
    starved = math.max(0, NOW - number(hget(STARVED, model)))
  else
    redis.call('HDEL', STARVED, model)
  end
  local answer = {
    model, workers, starved, redis.call('EXISTS', model_key(model, 'janitor')), deaths_of(model),
    hget(LOAD_SECONDS, model) or '', hget(IMAGE_SECONDS, model) or '', waiting,
  }
  for _, each in ipairs(shares_of(model)) do answer[#answer + 1] = each end
  return answer
end

local answers = {}
for _, model in ipairs(models) do
  local is_sound, answer = pcall(standing_of, model) -- damaged keys of one model must not affect the others
  if is_sound then answers[#answers + 1] = answer end
end
local data = cmsgpack.pack(answers)
redis.call('SET', BOARD, data, 'PX', KEPT)
return data
