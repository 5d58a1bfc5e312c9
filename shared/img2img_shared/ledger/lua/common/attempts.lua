-- Fourth part: attempts at images, and what happens to an image when one ends.
local DEATHS = 3 -- how many workers may die on an image before it fails
local TROUBLES = 5 -- how often it may be put back because a worker could not do it, before it fails
local LATER = 2 ^ 40 -- added to the scores of images that wait for other workers: they come after all others of their job
local ORDERS = 24 * 3600 * 1000 -- ms for which a worker's order, or its failures, are kept beyond its last beat
local PARDON = 24 * 3600 * 1000 -- ms after which a worker that was thought dead can no longer be pardoned

-- The fence: removes and returns the claim that `nonce` names; false if it is not current any more, or its job is gone.
local function drop(model, nonce)
  local leases, claims = model_key(model, 'leases'), model_key(model, 'claims')
  if not redis.call('ZSCORE', leases, nonce) then return false end
  local id, index, attempt, alone, worker =
    string.match(hget(claims, nonce) or '', '^(%S+) (%d+) (%d+) ([01]) (.*)$')
  local job = id and load(id)
  if id then expect('hash', holding_key(worker)) end
  redis.call('ZREM', leases, nonce)
  if not id then return false end
  redis.call('HDEL', claims, nonce)
  local held = add(holding_key(worker), 'claims', -1)
  if held <= 0 then
    redis.call('DEL', holding_key(worker))
  elseif alone == '1' then
    redis.call('HDEL', holding_key(worker), 'alone')
  end
  if held < 0 then -- an older version's claim, which was counted by model
    if redis.call('HINCRBY', model_key(model, 'holding'), worker, -1) <= 0 then
      redis.call('HDEL', model_key(model, 'holding'), worker)
    end
    redis.call('HDEL', model_key(model, 'alone'), worker)
  end
  if not job then
    forget(id)
    return false
  end
  redis.call('HDEL', job_key(id, 'running'), index)
  job.running = redis.call('HINCRBY', job_key(id), 'running', -1)
  return {job = job, index = index, attempt = attempt, worker = worker}
end

-- How often an image was put back in trouble, until when it is for other workers, and which worker put it back last; nil:
-- never.
local function trouble_with(text)
  local tries, others, worker = string.match(text or '', '^(%d+) (%d+) (.*)$')
  return tonumber(tries), tonumber(others), worker
end

-- The field of a job's `lacking` that stands for all its images, for one worker.
local function all_for(worker) return 'worker ' .. worker end

-- Whether an image is kept for other workers, which have a file that this one lacks, and of which one is there.
local function is_for_others(job, index, worker)
  for _, text in ipairs(redis.call('HMGET', job_key(job.id, 'lacking'), all_for(worker), index)) do
    local ends, others = unpack(text and cmsgpack.unpack(text) or {0, {}})
    local is_there = false
    for _, other in ipairs(others) do
      if other == worker then ends = 0 end
      is_there = is_there or tonumber(redis.call('ZSCORE', model_key(job.model, 'loaded'), other) or '0') >= NOW
    end
    if is_there and is_to_come(ends, LONGEST) then return true end
  end
  return false
end

-- Has an image that was begun before wait again; apart, if a worker died on it.
local function wait_again(job, index)
  if redis.call('HEXISTS', job_key(job.id, 'deaths'), index) == 1 then
    redis.call('ZADD', job_key(job.id, 'suspects'), index, index)
  else
    local is_troubled = redis.call('HEXISTS', job_key(job.id, 'troubles'), index) == 1
    redis.call('ZADD', job_key(job.id, 'back'), is_troubled and LATER + index or index, index)
  end
end

-- Ends an attempt without a result: its image is pending again, at once or after `delay` ms.
local function hand_back(claim, delay)
  local job = claim.job
  redis.call('HSET', job_key(job.id, 'attempts'), claim.index, claim.attempt)
  if job.cancelled then
    event(job, claim.index, 'cancelled', claim.attempt)
    settle(job)
  elseif delay > 0 then
    redis.call('ZADD', model_key(job.model, 'delayed'), NOW + delay, job.id .. ' ' .. claim.index)
    event(job, claim.index, 'pending', claim.attempt)
  else
    wait_again(job, claim.index)
    event(job, claim.index, 'pending', claim.attempt)
  end
  place(job)
end

local function end_with(claim, state, reason)
  local job = claim.job
  redis.call('HDEL', job_key(job.id, 'troubles'), claim.index)
  redis.call('HDEL', job_key(job.id, 'doubts'), claim.index)
  redis.call('HDEL', job_key(job.id, 'lacking'), claim.index)
  count_end(job, state)
  event(job, claim.index, state, claim.attempt, reason)
  settle(job)
  place(job)
end

local function fail(claim, reason)
  redis.call('HSET', job_key(claim.job.id, 'attempts'), claim.index, claim.attempt)
  redis.call('HSET', job_key(claim.job.id, 'failed'), claim.index, reason)
  end_with(claim, 'failed', reason)
end

-- Strikes off the death of a worker that was thought dead and is alive.
local function pardon(nonce)
  local text = redis.call('GET', dead_key(nonce))
  if not text then return end
  local id, index = string.match(text, '^(%S+) (%d+)$')
  local job = id and load(id)
  redis.call('DEL', dead_key(nonce))
  if not job or redis.call('HEXISTS', job_key(id, 'deaths'), index) == 0 then return end
  if redis.call('HINCRBY', job_key(id, 'deaths'), index, -1) > 0 then return end
  redis.call('HDEL', job_key(id, 'deaths'), index)
  if redis.call('ZREM', job_key(id, 'suspects'), index) == 1 then
    wait_again(job, index)
    place(job)
  end
end

-- Has images wait whose time to be tried again has come.
local function promote(model)
  local delayed = model_key(model, 'delayed')
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', delayed, NOW + LONGEST + 1, '+inf', 'LIMIT', 0, 20)) do
    redis.call('ZADD', delayed, NOW, member)
  end
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', delayed, '-inf', NOW, 'LIMIT', 0, 20)) do
    local id, index = string.match(member, '^(%S+) (%d+)$')
    local job = id and load(id)
    redis.call('ZREM', delayed, member)
    if job and not job.cancelled then
      wait_again(job, index)
      place(job)
    end
  end
end
