-- The janitor's round. False if another worker is the janitor; else how many images were handed back, became suspects,
-- and failed, and whether there are more.
local model, worker, lease, term = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local SHARE = 50 -- leases at a time, so that Redis is never blocked for long
local janitor, tick = model_key(model, 'janitor'), model_key(model, 'tick')
local elected = redis.call('GET', janitor)
if elected and elected ~= worker then
  expire_within(janitor, tonumber(term))
  return false
end
redis.call('SET', janitor, worker, 'PX', term)

-- Frees a job's images whose claims somebody deleted: they can neither be reported nor expire.
local function free_unclaimed(job)
  local claimed, claims = {}, redis.call('HGETALL', model_key(job.model, 'claims'))
  for i = 1, #claims, 2 do
    local id, index = string.match(claims[i + 1], '^(%S+) (%d+) ')
    if id == job.id then
      if redis.call('ZSCORE', model_key(job.model, 'leases'), claims[i]) then
        claimed[index] = true
      else
        redis.call('HDEL', model_key(job.model, 'claims'), claims[i])
      end
    end
  end
  local running = redis.call('HGETALL', job_key(job.id, 'running'))
  for i = 1, #running, 2 do
    local index, attempt, holder = running[i], string.match(running[i + 1], '^(%d+) (.*)$')
    if not claimed[index] then
      expect('hash', holding_key(holder))
      redis.call('HDEL', job_key(job.id, 'running'), index)
      job.running = redis.call('HINCRBY', job_key(job.id), 'running', -1)
      if redis.call('HINCRBY', holding_key(holder), 'claims', -1) <= 0 then redis.call('DEL', holding_key(holder)) end
      hand_back({job = job, index = index, attempt = attempt, worker = holder}, 0)
    end
  end
end

local WALK = 500 -- images searched at a time, likewise

-- Images that were begun and are listed nowhere any more, because somebody deleted a list, wait again.
local function find_lost(job)
  local id = job.id
  local waiting = redis.call('ZCARD', job_key(id, 'back')) + redis.call('ZCARD', job_key(id, 'suspects'))
  local elsewhere = job.next - waiting - job.running - job.done - job.failed
  if job.cancelled or elsewhere <= 0 then return end
  -- it must be known which images have ended or run
  if redis.call('BITCOUNT', job_key(id, 'done')) ~= job.done then return end
  if redis.call('HLEN', job_key(id, 'failed')) ~= job.failed then return end
  if redis.call('HLEN', job_key(id, 'running')) ~= job.running then return end
  local from = NOW % job.next
  for step = 0, math.min(WALK, job.next) - 1 do
    local index = (from + step) % job.next
    local is_listed = redis.call('GETBIT', job_key(id, 'done'), index) == 1
      or redis.call('ZSCORE', model_key(job.model, 'delayed'), id .. ' ' .. index)
    for _, part in ipairs({'back', 'suspects'}) do
      is_listed = is_listed or redis.call('ZSCORE', job_key(id, part), index)
    end
    for _, part in ipairs({'running', 'failed'}) do
      is_listed = is_listed or redis.call('HEXISTS', job_key(id, part), index) == 1
    end
    if not is_listed then wait_again(job, index) end
  end
  place(job)
end

local function look_after(id)
  mend(id)
  local job = load(id)
  if not job then return end
  if job.running > 0 then free_unclaimed(job) end
  find_lost(job)
end

-- Repair some of what manual changes or older versions may have left behind.
adopt(model)
redis.call('DEL', model_key(model, 'floor'))
for _, id in ipairs(redis.call('HRANDFIELD', OPEN, 2)) do
  pcall(look_after, id) -- it may be another model's, whose keys may be damaged
end

-- Nobody has ticked for a while: Redis was away, and workers could not renew. They get the time to do so first.
local h = redis.call('HMGET', tick, 'at', 'grace')
local grace = math.min(number(h[2]), NOW + lease)
if NOW - number(h[1]) > lease / 2 then grace = NOW + lease end
redis.call('HSET', tick, 'at', NOW, 'grace', grace)
if NOW < grace then return {0, 0, 0, 0} end

-- No lease may end later than one that begins now: after the clock was set back, a dead worker must not keep images.
local leases = model_key(model, 'leases')
for _, nonce in ipairs(redis.call('ZRANGEBYSCORE', leases, NOW + lease + 1, '+inf', 'LIMIT', 0, SHARE)) do
  redis.call('ZADD', leases, NOW + lease, nonce)
end

local handed_back, suspects, failed = 0, 0, 0
local expired = redis.call('ZRANGEBYSCORE', leases, '-inf', NOW, 'LIMIT', 0, SHARE)
for _, nonce in ipairs(expired) do
  local claim = drop(model, nonce)
  if claim then expire_within(worker_key(claim.worker), LONGEST / 2) end
  if claim and redis.call('EXISTS', worker_key(claim.worker)) == 1 then
    handed_back = handed_back + 1
    hand_back(claim, 0)
  elseif claim then
    local id = claim.job.id
    redis.call('SET', dead_key(nonce), id .. ' ' .. claim.index, 'PX', PARDON)
    local deaths = redis.call('HINCRBY', job_key(id, 'deaths'), claim.index, 1)
    if deaths >= DEATHS and not claim.job.cancelled then
      failed = failed + 1
      fail(claim, deaths .. ' workers died while rendering it, the last of them ' .. claim.worker)
    else
      suspects = suspects + 1
      hand_back(claim, 0)
    end
  end
end
return {handed_back, suspects, failed, #expired == SHARE and 1 or 0}
